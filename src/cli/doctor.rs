//! `bootlatch doctor`: what is wrong with the appliance on this machine, and with its wire.

use std::path::PathBuf;

use crate::config::Flags;
use crate::doctor::{Finding, Report, Severity};
use crate::fleet::text::printable;

use super::exit::Unwell;
use super::show::{OutputFormat, json_text, print};

/// Options of `bootlatch doctor`. Those of `serve` are given as that is started.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sudo bootlatch doctor\n  sudo bootlatch doctor --probe -o json\n  \
                  sudo bootlatch doctor --config /etc/bootlatch/new.toml --interface eth1\n\n\
                  It looks at this machine: of a stopped appliance at what its configuration names. Without root it says what \
                  it could not look at. Exit status: 0 nothing is wrong, 7 warnings, 8 errors; what was not looked at does \
                  not count.")]
pub struct DoctorArgs {
    /// Configuration file [default: /etc/bootlatch/bootlatch.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Interface to answer on, as for serve
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    /// Address at which machines reach the server, as for serve
    #[arg(long, value_name = "IP")]
    address: Option<String>,
    /// State directory, as for serve
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Directory of the boot programs, as for serve
    #[arg(long, value_name = "DIR")]
    firmware_dir: Option<PathBuf>,
    /// Directory of manifests, as for serve
    #[arg(long, value_name = "DIR")]
    manifests: Option<PathBuf>,
    /// HTTP port for machines, as for serve
    #[arg(long, value_name = "N")]
    http_port: Option<u16>,
    /// Ask for other DHCP and boot servers and for IPv6 routers on each interface; takes no address. About 8 seconds each
    #[arg(long)]
    probe: bool,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

impl DoctorArgs {
    fn flags(&self) -> Flags {
        Flags {
            config: self.config.clone(),
            interface: self.interface.clone(),
            address: self.address.clone(),
            state_dir: self.state_dir.clone(),
            firmware_dir: self.firmware_dir.clone(),
            manifests: self.manifests.clone(),
            http_port: self.http_port,
            check: true,
            ..Flags::default()
        }
    }
}

/// Prints what `examine` finds. `examine` belongs to the composition root, which only `main` names.
///
/// # Errors
/// `Unwell` if something is wrong.
pub fn doctor(args: &DoctorArgs, examine: impl FnOnce(&Flags, bool) -> Report) -> anyhow::Result<()> {
    let report = examine(&args.flags(), args.probe);
    print(&match args.output {
        OutputFormat::Json => json_text(&serde_json::to_value(&report)?)?,
        OutputFormat::Yaml => serde_saphyr::to_string(&report)?,
        OutputFormat::Table => format_report(&report),
    })?;
    match report.worst() {
        None => Ok(()),
        Some(severity) => Err(Unwell(severity).into()),
    }
}

/// Formats a report for people: findings first, each with what to do.
fn format_report(report: &Report) -> String {
    let server = match report.is_running {
        Some(true) => "The server runs.",
        Some(false) => "The server does not run.",
        None => "It is not known whether the server runs.",
    };
    let count = |severity| report.findings.iter().filter(|finding| finding.severity == severity).count();
    let counted = match (count(Severity::Error), count(Severity::Warning)) {
        (0, 0) => format!("Nothing is wrong, as far as {} tell.", plural(report.checked.len(), "check")),
        (errors, warnings) => format!("{}, {}.", plural(errors, "error"), plural(warnings, "warning")),
    };
    let mut text = format!("{server} {counted}\n");
    report.findings.iter().for_each(|finding| text += &format_finding(finding));
    if !report.not_checked.is_empty() {
        text += "\nNot looked at:\n";
        for one in &report.not_checked {
            text += &format!("  {}: {}\n", one.check, printable(&one.reason));
        }
    }
    text
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn format_finding(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Error => "ERROR",
        Severity::Warning => "WARNING",
    };
    let Finding { code, subject, seen, remedy, .. } = finding;
    format!("\n{severity} {code}: {}\n  {}\n  -> {}\n", printable(subject), printable(seen), printable(remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_what_to_do() {
        let mut report = Report::new(Some(false));
        report.add("ports", &Ok(()), |()| vec![Finding::error("port_taken", "UDP 69", "taken by x\u{1b}", "stop it")]);
        report.add("firewall", &Err::<(), _>("needs root".to_owned()), |()| Vec::new());
        assert_eq!(
            format_report(&report),
            "The server does not run. 1 error, 0 warnings.\n\nERROR port_taken: UDP 69\n  taken by x\n  -> stop it\n\n\
             Not looked at:\n  firewall: needs root\n"
        );
        let mut well = Report::new(Some(true));
        well.add("ports", &Ok(()), |()| Vec::new());
        assert_eq!(format_report(&well), "The server runs. Nothing is wrong, as far as 1 check tell.\n");
    }
}
