use std::time::Duration;

use crate::fleet::{Bmc, BmcAddress, BmcProtocol, Power};

use super::{Next, Reset, Trouble, ipmi, redfish};

/// Is how long a controller may take for all of what is asked: they are slow, and clients wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks whether the machine runs.
///
/// # Errors
/// The controller cannot be reached, or refuses.
pub async fn power(bmc: &Bmc) -> Result<Power, Trouble> {
    let at: BmcAddress = bmc.address.parse()?;
    match at.protocol {
        BmcProtocol::Redfish { tls } => within(bmc, &at, redfish::client::Service::new(bmc, &at, tls).power()).await,
        BmcProtocol::Ipmi => within(bmc, &at, ipmi::client::power(bmc, &at)).await,
    }
}

/// Switches the machine on or off, or restarts it.
///
/// # Errors
/// As `power`.
pub async fn reset(bmc: &Bmc, reset: Reset) -> Result<(), Trouble> {
    let at: BmcAddress = bmc.address.parse()?;
    match at.protocol {
        BmcProtocol::Redfish { tls } => {
            within(bmc, &at, redfish::client::Service::new(bmc, &at, tls).reset(reset)).await
        }
        BmcProtocol::Ipmi => within(bmc, &at, ipmi::client::reset(bmc, &at, reset)).await,
    }
}

/// Says what the machine's firmware is to boot: the next time, or from now on.
///
/// # Errors
/// As `power`.
pub async fn boot(bmc: &Bmc, next: Next, once: bool) -> Result<(), Trouble> {
    let at: BmcAddress = bmc.address.parse()?;
    match at.protocol {
        BmcProtocol::Redfish { tls } => {
            within(bmc, &at, redfish::client::Service::new(bmc, &at, tls).boot(next, once)).await
        }
        BmcProtocol::Ipmi => within(bmc, &at, ipmi::client::boot(bmc, &at, next, once)).await,
    }
}

/// Asks for no longer than a controller may take. Nothing but what comes out here is told to anybody.
async fn within<T>(bmc: &Bmc, at: &BmcAddress, asking: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let silent =
        |_| Trouble::Unreachable { at: at.to_string(), cause: format!("no answer within {} s", PATIENCE.as_secs()) };
    let answered = tokio::time::timeout(PATIENCE, asking).await.map_err(silent)?;
    answered.map_err(|trouble| trouble.without_password(bmc))
}
