//! A policy for the witgate gateway: nobody calls the tools that the operator's file lists.

use witgate_plugin::{AccessAction, AccessRequest, AuthPolicy, Decision, Error};

struct Plugin;

impl AuthPolicy for Plugin {
    // An error counts as a refusal.
    fn authorize(request: &AccessRequest) -> Result<Decision, Error> {
        let AccessAction::Tool(tool) = &request.action else { return Ok(Decision::Abstain) };
        let denied: Vec<String> = witgate_plugin::config_value("denied_tools")?.unwrap_or_default();
        if denied.contains(&tool.name) {
            return Ok(Decision::deny(403, format!("the tool {} is switched off", tool.name)));
        }
        Ok(Decision::Abstain)
    }
}

witgate_plugin::export!(Plugin: auth);

#[cfg(test)]
mod tests {
    use super::*;
    use witgate_plugin::{auth::ToolAccess, testing};

    #[test]
    fn listed_tools_are_denied() {
        testing::set_config(r#"{ "denied_tools": ["write_query"] }"#);
        let call = |name: &str| {
            let tool = ToolAccess { name: name.into(), server: "sqlite".into(), arguments_json: "{}".into() };
            Plugin::authorize(&AccessRequest::new(AccessAction::Tool(tool)))
        };
        assert_eq!(call("write_query"), Ok(Decision::deny(403, "the tool write_query is switched off")));
        assert_eq!(call("read_query"), Ok(Decision::Abstain));
    }
}
