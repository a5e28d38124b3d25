//! `tidelog man`: a manual page for each command.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use clap::Args;

use crate::say;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Where to write them; created if it does not exist.
    directory: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let directory = &arguments.directory;
    let cannot = |error| format!("cannot write to {}: {error}", directory.display());
    fs::create_dir_all(directory).map_err(cannot)?;
    clap_mangen::generate_to(crate::command(), directory).map_err(cannot)?;
    say(&format!(
        "the manual begins with {}",
        directory.join("tidelog.1").display()
    ));
    Ok(())
}
