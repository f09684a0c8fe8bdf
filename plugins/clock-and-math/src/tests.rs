//! The tools through the same door as the gateway.

use serde_json::{Value, json};
use witgate_plugin::tools::ContentBlock;
use witgate_plugin::{CallContext, ToolProvider, ToolResult, testing};

use super::ClockAndMath;

fn call(name: &str, arguments: &Value) -> ToolResult {
    ClockAndMath::call(&CallContext::default(), name, &arguments.to_string()).unwrap()
}

fn text(result: &ToolResult) -> &str {
    let [ContentBlock::Text(text)] = result.content.as_slice() else { panic!("one text") };
    text
}

fn parts(result: &ToolResult) -> Value {
    serde_json::from_str(result.structured_json.as_ref().unwrap()).unwrap()
}

#[test]
fn four_tools_with_schemas_are_listed() {
    let tools = ClockAndMath::list().unwrap();
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["current_time", "convert_time", "date_calculate", "calculate"]);
    for tool in &tools {
        let schema: Value = serde_json::from_str(&tool.input_schema_json).unwrap();
        assert_eq!(schema["additionalProperties"], false, "{}", tool.name);
        if let Some(schema) = &tool.output_schema_json {
            assert_eq!(serde_json::from_str::<Value>(schema).unwrap()["type"], "object", "{}", tool.name);
        }
        assert_eq!(tool.annotations.read_only_hint, Some(true), "{}", tool.name);
        assert_eq!(tool.annotations.idempotent_hint, Some(true), "{}", tool.name);
    }
}

#[test]
fn calculate_tells_the_result_and_whether_it_is_exact() {
    let sum = call("calculate", &json!({ "expression": "0.1 + 0.2" }));
    assert_eq!((text(&sum), sum.is_error), ("0.3", false));
    assert_eq!(parts(&sum), json!({ "expression": "0.1 + 0.2", "result": "0.3", "exact": true }));
    let third = call("calculate", &json!({ "expression": "1/3", "decimal_places": 2 }));
    assert_eq!(text(&third), "0.33 (rounded)");
    let wrong = call("calculate", &json!({ "expression": "1 / (2 - 2)" }));
    assert_eq!((text(&wrong), wrong.is_error), ("at character 3: division by zero", true));
}

#[test]
fn the_zone_of_the_configuration_is_the_default() {
    testing::set_config(r#"{ "time_zone": "Asia/Kolkata" }"#);
    let now = parts(&call("current_time", &json!({})));
    assert_eq!((&now["time_zone"], &now["utc_offset"]), (&json!("Asia/Kolkata"), &json!("+05:30")));
    let conversion = call("convert_time", &json!({ "time": "2026-01-01T12:00", "to_time_zone": "UTC" }));
    assert_eq!(parts(&conversion)["to"]["datetime"], "2026-01-01T06:30:00+00:00");
    assert_eq!(
        text(&conversion),
        "Thursday 2026-01-01 12:00:00 in Asia/Kolkata (IST, UTC+05:30)\nis Thursday 2026-01-01 06:30:00 in UTC (UTC+00:00)"
    );
}

#[test]
fn a_wrong_configuration_keeps_the_plugin_out() {
    for (config, expected) in [
        (r#"{ "time_zone": "Berlin" }"#, "did you mean Europe/Berlin?"),
        (r#"{ "timezone": "UTC" }"#, "unknown field `timezone`"),
    ] {
        testing::set_config(config);
        let error = ClockAndMath::list().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_a_model_gets_wrong_it_is_told() {
    let zone = call("current_time", &json!({ "time_zone": "Tokyo" }));
    assert_eq!(
        (text(&zone), zone.is_error),
        ("there is no time zone `Tokyo`; did you mean Asia/Tokyo?", true)
    );
    let date = call("date_calculate", &json!({ "operation": "add", "start": "tomorrow", "days": 1 }));
    assert!(date.is_error && text(&date).contains("is no date or time"));
}
