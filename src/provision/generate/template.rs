//! Templates of cloud-init configs.

use std::str::FromStr;

use serde_json::{Map, Value, json};

use super::body::display_value;

/// The purpose of a machine, which adds files and commands to its cloud-config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// No additions.
    Base,
    /// The preflight checks of kubeadm: IP forwarding, filtering of bridged traffic, no swap.
    KubernetesNode,
    /// A NixOS that applies a flake once; its user-data is a text with placeholders.
    NixosBootstrap,
}

/// The user-data of NixosBootstrap.
const NIXOS_BOOTSTRAP: &str = include_str!("../../../config/templates/nixos-bootstrap.yaml");

impl Template {
    /// All templates.
    pub const ALL: [Self; 3] = [Self::Base, Self::KubernetesNode, Self::NixosBootstrap];

    /// Returns the name in a request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::KubernetesNode => "kubernetes-node",
            Self::NixosBootstrap => "nixos-bootstrap",
        }
    }

    /// Returns the whole user-data with placeholders, if the template is one.
    pub fn text(self) -> Option<&'static str> {
        match self {
            Self::Base | Self::KubernetesNode => None,
            Self::NixosBootstrap => Some(NIXOS_BOOTSTRAP),
        }
    }

    /// Adds the settings of the template to a cloud-config.
    pub fn add(self, config: &mut Map<String, Value>) {
        match self {
            Self::Base | Self::NixosBootstrap => {}
            Self::KubernetesNode => {
                let file = |path: &str, content: &str| json!({"path": path, "permissions": "0644", "content": content});
                let settings = "net.bridge.bridge-nf-call-iptables = 1\nnet.bridge.bridge-nf-call-ip6tables = 1\n\
                                net.ipv4.ip_forward = 1\n";
                config.insert(
                    "write_files".into(),
                    json!([
                        file("/etc/modules-load.d/kubernetes.conf", "overlay\nbr_netfilter\n"),
                        file("/etc/sysctl.d/99-kubernetes.conf", settings),
                    ]),
                );
                config.insert(
                    "runcmd".into(),
                    json!([
                        ["modprobe", "overlay"],
                        ["modprobe", "br_netfilter"],
                        ["sysctl", "--system"],
                        ["swapoff", "-a"],
                        // No swap after the next start either.
                        ["sed", "-i", "-E", "/^[^#]+[[:space:]]swap[[:space:]]/s/^/#/", "/etc/fstab"],
                    ]),
                );
            }
        }
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|template| template.as_str() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            format!("unknown template {}: expected one of {known}", display_value(text))
        })
    }
}
