//! Standard output. A reader that went away is no error: the program ends quietly.

use std::io::{self, Write};

/// Prints text as it is.
pub(crate) fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        let code = if error.kind() == io::ErrorKind::BrokenPipe {
            0
        } else {
            1
        };
        std::process::exit(code);
    }
}

/// Prints one line.
pub(crate) fn line(text: &str) {
    print(&format!("{text}\n"));
}

/// Prints one line to standard error; who does not listen misses it.
pub(crate) fn error(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
