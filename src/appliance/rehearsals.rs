//! Connects the rehearsals of the protocols with the API.

use std::sync::Arc;

use crate::dhcp::serve::RehearsalQueue;
use crate::gate::Gate;
use crate::gate::rehearsal::ProtocolRehearsals;
use crate::iscsi::serve::admission::AttachPolicy;
use crate::iscsi::serve::rehearsal as logins;
use crate::tftp::serve::boot_files::BootFiles;

/// Returns the parts of a rehearsal that the running protocols answer.
pub fn connect(
    dhcp: RehearsalQueue,
    files: Arc<BootFiles>,
    policy: AttachPolicy,
    gate: &Arc<Gate>,
) -> ProtocolRehearsals {
    let gate = gate.clone();
    ProtocolRehearsals {
        dhcp: Box::new(move |client, interface| {
            let dhcp = dhcp.clone();
            Box::pin(async move { dhcp.rehearse(client, interface).await })
        }),
        tftp: Box::new(move |url, name| files.describe(url, name)),
        iscsi: Box::new(move |login| logins::rehearse(&gate, policy, login)),
    }
}
