//! Connects the questions of the API with the protocols that answer them.

use std::sync::Arc;

use crate::dhcp::serve::DhcpQueries;
use crate::gate::Gate;
use crate::gate::rehearsal::ProtocolQueries;
use crate::iscsi::serve::admission::AttachPolicy;
use crate::iscsi::serve::rehearsal as logins;
use crate::tftp::serve::boot_files::BootFiles;

/// Returns the questions that the running protocols answer.
pub fn connect(dhcp: DhcpQueries, files: Arc<BootFiles>, policy: AttachPolicy, gate: &Arc<Gate>) -> ProtocolQueries {
    let (gate, heard, ended) = (gate.clone(), dhcp.clone(), dhcp.clone());
    ProtocolQueries {
        dhcp: Box::new(move |client, interface| {
            let dhcp = dhcp.clone();
            Box::pin(async move { dhcp.rehearse(client, interface).await })
        }),
        network: Box::new(move || {
            let dhcp = heard.clone();
            Box::pin(async move { dhcp.network().await.ok() })
        }),
        end_lease: Box::new(move |address| {
            let dhcp = ended.clone();
            Box::pin(async move { dhcp.end_lease(address).await.ok() })
        }),
        tftp: Box::new(move |url, name| files.describe(url, name)),
        iscsi: Box::new(move |login| logins::rehearse(&gate, policy, login)),
    }
}
