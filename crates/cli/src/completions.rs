//! `tidelog completions`: what a shell needs to complete the command.

use std::error::Error;

use clap::Args;
use clap_complete::{Shell, generate};

use crate::say;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let mut script = Vec::new();
    generate(
        arguments.shell,
        &mut crate::command(),
        "tidelog",
        &mut script,
    );
    say(String::from_utf8(script)?.trim_end());
    Ok(())
}
