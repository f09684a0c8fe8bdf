//! A plugin for the witgate gateway: hides e-mail addresses in what the model says.

use regex_lite::{NoExpand, Regex};
use witgate_plugin::{Action, Context, Error, Reply, ResponseProcessor};

struct Plugin;

impl ResponseProcessor for Plugin {
    fn process(_ctx: &Context, reply: Reply) -> Result<Action, Error> {
        let address = Regex::new(r"[\w.+-]+@[\w-]+(\.[\w-]+)+").map_err(Error::internal)?;
        if !address.is_match(&reply.text) {
            return Ok(Action::Keep);
        }
        // From the operator's file.
        let replacement: Option<String> = witgate_plugin::config_value("replacement")?;
        let replacement = replacement.as_deref().unwrap_or("[e-mail]");
        Ok(Action::Replace(address.replace_all(&reply.text, NoExpand(replacement)).into_owned()))
    }
}

witgate_plugin::export!(Plugin: response);

#[cfg(test)]
mod tests {
    use super::*;
    use witgate_plugin::testing;

    #[test]
    fn addresses_are_hidden_and_other_text_is_left_alone() {
        let ctx = Context::default();
        let process = |text: &str| Plugin::process(&ctx, Reply::text(text));
        assert_eq!(process("Ask ann@example.org."), Ok(Action::Replace("Ask [e-mail].".into())));
        assert_eq!(process("a @ b"), Ok(Action::Keep));
        testing::set_config(r#"{ "replacement": "$1" }"#);
        assert_eq!(process("ann@example.org"), Ok(Action::Replace("$1".into())));
    }
}
