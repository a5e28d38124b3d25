//! `tidelog log verify`.

use std::error::Error;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tidelog_log::FsDir;
use tidelog_log::verify::{Depth, Finding, Severity, verify};

use super::print::Printer;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The log directory, as in `log.dirs`. Best while no broker uses it.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Read every record too, not only the checksums of the batches they are in.
    #[arg(long)]
    records: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// Leave out what a broker puts right by itself when it starts.
    #[arg(long, short)]
    quiet: bool,
}

/// Answers whether nothing is damaged.
pub(super) fn run(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let mut printer = Printer::stdout(arguments.json);
    let mut printed = Ok(());
    let depth = Depth {
        records: arguments.records,
    };
    let mut report = |finding: Finding| {
        if printed.is_ok() && !(arguments.quiet && finding.severity == Severity::Note) {
            printed = print(&mut printer, &finding);
        }
    };
    let summary = verify(&FsDir::new(&arguments.directory), &depth, &mut report)
        .map_err(|error| format!("{}: {error}", arguments.directory.display()))?;
    printed?;
    let counts = json!({
        "partitions": summary.partitions,
        "segments": summary.segments,
        "batches": summary.batches,
        "bytes": summary.bytes,
        "notes": summary.notes,
        "damages": summary.damages,
    });
    printer.object(&counts)?;
    printer.finish()?;
    Ok(summary.damages == 0)
}

fn print(printer: &mut Printer, finding: &Finding) -> std::io::Result<()> {
    let object = json!({
        "severity": match finding.severity {
            Severity::Note => "note",
            Severity::Damage => "damage",
        },
        "path": finding.path.display().to_string(),
        "position": finding.position,
        "text": finding.text,
    });
    printer.line(&object, || finding.to_string())
}
