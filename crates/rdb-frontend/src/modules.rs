//! Loading a module of the kernel.

use std::io;
use std::process::{Command, Stdio};

/// Loads a module, if the machine has it and lets us. The error goes on from the module's name.
pub(crate) fn load(module: &str) -> Result<(), String> {
    let mut found = None;
    for program in ["/usr/sbin/modprobe", "/sbin/modprobe", "modprobe"] {
        let output = Command::new(program)
            .arg(module)
            .stdin(Stdio::null())
            .output();
        match output {
            Ok(output) => {
                found = Some(output);
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("can not be loaded: {program}: {error}")),
        }
    }
    let Some(output) = found else {
        return Err("is not loaded, and there is no modprobe".to_owned());
    };
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(format!("can not be loaded: {}", words.trim()))
}
