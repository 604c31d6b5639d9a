//! Options of a step that stand on the command line: `connect --timeout=50 r0`, `disk-options --resync-rate=5M r0`.
//!
//! `connect`, `attach` and `new-resource` have them beside those of the configuration, before which they go; the commands
//! `net-options`, `disk-options` and `resource-options` set these alone then, and leave the others as they run
//! (`docs/spec/admin.md`, section 3.1).

use super::Command;
use crate::exec::Executor;
use crate::setup;
use crate::step::{Step, Tool};
use crate::verbs::Own;

impl Command<'_> {
    /// The options given, as words of the step.
    fn given(&self) -> Vec<String> {
        let given = self.args.get_many::<String>("setup-option");
        given
            .map(|words| words.cloned().collect())
            .unwrap_or_default()
    }

    /// The steps with what is given; the exit status if that is wrong, or if nothing runs that could be changed.
    pub(super) fn with_given(&self, steps: Vec<Step>) -> Result<Vec<Step>, u8> {
        let given = self.given();
        if given.is_empty() {
            return Ok(steps);
        }
        let mut executor = self.executor();
        let changes_what_runs = matches!(
            self.own(),
            Some(Own::NetOptions | Own::DiskOptions | Own::ResourceOptions)
        );
        let steps = steps.into_iter();
        steps
            .map(|step| {
                // (`apply-al` before an attach has no options.)
                if step.tool != Tool::Setup || step.argv[0] != self.verb.name {
                    return Ok(step);
                }
                let is_kept = |word: &&String| !changes_what_runs || !word.starts_with("--");
                let configured = step.argv.iter().filter(is_kept);
                let words: Vec<String> = configured.chain(&given).cloned().collect();
                self.reread(&mut executor, &step, words, &given)
            })
            .collect()
    }

    /// The step that the words say.
    fn reread(
        &self,
        executor: &mut Executor,
        step: &Step,
        words: Vec<String>,
        given: &[String],
    ) -> Result<Step, u8> {
        let mut read = match self.has("dry-run") {
            // What runs is not asked for what is only printed.
            true => {
                setup::check_options(self.verb, given).map_err(|message| self.refuse(&message))?;
                step.clone()
            }
            false => setup::reread(executor, &words)?,
        };
        read.argv = words;
        read.resource.clone_from(&step.resource);
        read.object.clone_from(&step.object);
        Ok(read)
    }

    fn refuse(&self, message: &str) -> u8 {
        crate::out::error(&format!("{}: {message}", self.program));
        setup::EXIT_USAGE
    }
}
