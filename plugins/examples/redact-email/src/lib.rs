//! Replaces e-mail addresses in replies by `[e-mail]`.

use regex_lite::Regex;
use witgate_plugin::{Action, Context, Error, Reply, ResponseProcessor};

struct RedactEmail;

impl ResponseProcessor for RedactEmail {
    fn process(_ctx: &Context, reply: Reply) -> Result<Action, Error> {
        let address = Regex::new(r"[\w.+-]+@[\w-]+(\.[\w-]+)+").map_err(Error::internal)?;
        if !address.is_match(&reply.text) {
            return Ok(Action::Keep);
        }
        Ok(Action::Replace(address.replace_all(&reply.text, "[e-mail]").into_owned()))
    }
}

witgate_plugin::export!(RedactEmail: response);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_replaced_and_other_text_is_left_alone() {
        let ctx = Context::default();
        assert_eq!(
            RedactEmail::process(&ctx, Reply::text("Write to ann.b@example.org or call.")),
            Ok(Action::Replace("Write to [e-mail] or call.".into()))
        );
        assert_eq!(RedactEmail::process(&ctx, Reply::text("a @ b")), Ok(Action::Keep));
    }
}
