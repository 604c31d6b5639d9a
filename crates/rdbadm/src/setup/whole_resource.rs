//! Commands that DRBD 9's drbdsetup gives a resource where 8.4's has a minor: done to all volumes, for in DRBD 9 a resource has one role.

use rdb_control::{Op, Refusal, Role, code};

use crate::exec::{Executor, Trouble};
use crate::out;
use crate::step::Step;

/// Does to all volumes of a resource what `op` does to one; the result is the exit status. Of a promotion that is refused for one of them
/// nothing is left.
pub(super) fn run(
    executor: &mut Executor,
    name: &str,
    op: impl Fn(u32) -> Op,
    step: impl Fn(u32, Op) -> Step,
) -> u8 {
    let volumes = match volumes(executor, name) {
        Ok(volumes) => volumes,
        Err(code) => return code,
    };
    let mut promoted = Vec::new();
    for (minor, role) in volumes {
        let op = op(minor);
        let is_promotion = matches!(op, Op::Primary { .. }) && role != Role::Primary;
        let code = executor.run(&step(minor, op));
        if code != 0 {
            for minor in promoted {
                executor.run(&step(minor, Op::Secondary { minor }));
            }
            return code;
        }
        if is_promotion {
            promoted.push(minor);
        }
    }
    0
}

/// Prints this node's role in a resource, and as DRBD 9 does not the peer's.
pub(super) fn role(executor: &mut Executor, name: &str) -> u8 {
    let volumes = match volumes(executor, name) {
        Ok(volumes) => volumes,
        Err(code) => return code,
    };
    let is_primary = volumes.iter().any(|(_, role)| *role == Role::Primary);
    let role = if is_primary {
        Role::Primary
    } else {
        Role::Secondary
    };
    out::line(&role.to_string());
    0
}

/// The minors of a resource, each with its role; or the exit status, when it is told why there are none.
fn volumes(executor: &mut Executor, name: &str) -> Result<Vec<(u32, Role)>, u8> {
    let asked = executor.status();
    let report = asked.map_err(|trouble: Trouble| trouble.tell(&executor.program))?;
    let mut resources = report.iter().flat_map(|report| &report.resources);
    let Some(found) = resources.find(|resource| resource.name == name) else {
        let refusal = Refusal::failure(code::RES_NOT_KNOWN, "unknown resource");
        out::error(&refusal.message(name));
        return Err(refusal.exit_code());
    };
    let volumes = found.volumes.iter();
    Ok(volumes.map(|volume| (volume.minor, volume.role)).collect())
}
