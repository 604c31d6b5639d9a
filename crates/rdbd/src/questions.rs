//! The socket for questions: whoever may not administer the node may still look. It answers what changes nothing, without the
//! secrets, and refuses the rest.

use rdb_control::{Op, QUESTIONS_NAME, ResourceShown};
use serde_json::Value;

use crate::node::Node;
use crate::outcome::{Failure, Outcome};

/// Answers a question without the secrets in the answer, and refuses everything else.
pub(crate) async fn answer(node: &Node, op: Op) -> Outcome<Value> {
    check(&op)?;
    let is_show = op == Op::Show;
    let answer = node.perform(op).await?;
    if is_show {
        without_secrets(answer)
    } else {
        // States, counters, generations and addresses.
        Ok(answer)
    }
}

fn check(op: &Op) -> Outcome<()> {
    if op.is_question() {
        return Ok(());
    }
    Err(Failure::Error(format!(
        "'{}' changes something, and {QUESTIONS_NAME} is for questions only; it is for root to do",
        op.name()
    )))
}

/// What is shown of the configuration.
fn without_secrets(shown: Value) -> Outcome<Value> {
    let not_so = |error: serde_json::Error| Failure::Error(error.to_string());
    let mut shown: Vec<ResourceShown> = serde_json::from_value(shown).map_err(not_so)?;
    shown.iter_mut().for_each(ResourceShown::hide_secrets);
    serde_json::to_value(shown).map_err(not_so)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_is_refused_by_name() {
        assert_eq!(check(&Op::Status), Ok(()));
        let down = Op::Down {
            resource: "r0".to_owned(),
        };
        let Err(Failure::Error(text)) = check(&down) else {
            panic!("it is taken");
        };
        assert!(text.starts_with("'down' changes something"), "{text}");
    }
}
