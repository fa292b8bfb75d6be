//! Requests to BMCs, over the protocol of their address.

use std::time::Duration;

use crate::fleet::{Bmc, BmcAddress, BmcProtocol, Power};

use super::{BmcError, BootDevice, Reset, ipmi, redfish};

/// Maximum time for one operation, with all its requests. BMCs are slow, and API clients wait.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Returns the power state of the machine.
///
/// # Errors
/// The BMC cannot be reached, refuses, or does not support the request.
pub async fn read_power(bmc: &Bmc) -> Result<Power, BmcError> {
    let at: BmcAddress = bmc.address.parse()?;
    match at.protocol {
        BmcProtocol::Redfish { tls } => {
            within(bmc, &at, redfish::client::RedfishService::new(bmc, &at, tls).read_power()).await
        }
        BmcProtocol::Ipmi => within(bmc, &at, ipmi::client::read_power(bmc, &at)).await,
    }
}

/// Performs a power operation.
///
/// # Errors
/// Those of `read_power`.
pub async fn reset(bmc: &Bmc, reset: Reset) -> Result<(), BmcError> {
    let at: BmcAddress = bmc.address.parse()?;
    match at.protocol {
        BmcProtocol::Redfish { tls } => {
            within(bmc, &at, redfish::client::RedfishService::new(bmc, &at, tls).reset(reset)).await
        }
        BmcProtocol::Ipmi => within(bmc, &at, ipmi::client::reset(bmc, &at, reset)).await,
    }
}

/// Sets the boot device, for the next boot or for all boots.
///
/// # Errors
/// Those of `read_power`.
pub async fn set_boot_device(bmc: &Bmc, device: BootDevice, once: bool) -> Result<(), BmcError> {
    let at: BmcAddress = bmc.address.parse()?;
    match at.protocol {
        BmcProtocol::Redfish { tls } => {
            within(bmc, &at, redfish::client::RedfishService::new(bmc, &at, tls).set_boot_device(device, once)).await
        }
        BmcProtocol::Ipmi => within(bmc, &at, ipmi::client::set_boot_device(bmc, &at, device, once)).await,
    }
}

/// Limits an operation to `REQUEST_TIMEOUT`, and removes the password from its error. All errors pass here.
async fn within<T>(
    bmc: &Bmc,
    at: &BmcAddress,
    asking: impl Future<Output = Result<T, BmcError>>,
) -> Result<T, BmcError> {
    let no_answer = |_| BmcError::Unreachable {
        at: at.to_string(),
        cause: format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()),
    };
    let answered = tokio::time::timeout(REQUEST_TIMEOUT, asking).await.map_err(no_answer)?;
    answered.map_err(|error| error.without_password(bmc))
}
