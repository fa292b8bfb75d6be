//! The settings that have cloud-init and Subiquity report their progress.

use serde_json::{Value, json};

/// Name of our reporter among those of cloud-init and Subiquity.
const REPORTER: &str = "bootlatch";
/// Time that cloud-init waits for an answer to a report, in seconds. Without it a server that is gone would hold up each boot
/// of the installed system for minutes.
const REPORT_TIMEOUT: u32 = 5;

/// Returns the vendor-data by which cloud-init reports to a URL. cloud-init merges it with the user-data, which wins. Where
/// the user-data has an `autoinstall` section, Subiquity and its curtin report too.
pub fn vendor_data(url: &str, user_data: &str) -> String {
    let reporter = json!({REPORTER: {"type": "webhook", "endpoint": url, "timeout": REPORT_TIMEOUT}});
    let mut config = json!({"reporting": reporter.clone()});
    // The section alone would start an install.
    if has_autoinstall(user_data) {
        config["autoinstall"] = json!({"reporting": reporter});
    }
    // JSON is YAML.
    format!("#cloud-config\n{config}\n")
}

/// Returns whether user-data is a cloud-config with a section for Subiquity.
fn has_autoinstall(user_data: &str) -> bool {
    let parsed = serde_saphyr::from_str::<Value>(user_data);
    user_data.trim_start().starts_with("#cloud-config")
        && parsed.is_ok_and(|config| config.get("autoinstall").is_some_and(Value::is_object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subiquity_reports_only_where_it_is_asked_to_install() {
        let read =
            |user_data: &str| -> Value { serde_saphyr::from_str(&vendor_data("http://s/r", user_data)).unwrap() };
        let reporter = json!({"bootlatch": {"type": "webhook", "endpoint": "http://s/r", "timeout": 5}});
        for user_data in [
            "",
            "#cloud-config\nhostname: a\n",
            "#!/bin/sh\nautoinstall: {}\n",
            "#cloud-config\nautoinstall: x\n",
            "#cloud-config\na: [",
        ] {
            assert_eq!(read(user_data), json!({"reporting": reporter}), "{user_data}");
        }
        let both = json!({"reporting": reporter, "autoinstall": {"reporting": reporter}});
        assert_eq!(read("#cloud-config\nautoinstall:\n  version: 1\n"), both);
        assert!(vendor_data("http://s/r", "").starts_with("#cloud-config\n"));
    }
}
