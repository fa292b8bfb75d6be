//! The files of the configuration: boot programs, state directory, free space, certificates, manifests.

use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::admission::manifest;
use crate::config::Config;
use crate::doctor::checks::certificate_names::NamedCertificate;
use crate::doctor::checks::files::{CertificateState, EntryRole, EntryState, ProgramState, SpaceState};
use crate::doctor::{Looked, certificate};
use crate::http::tls::read_chain;
use crate::store::free_space::FreeSpace;

use super::super::privileges::{self, ServiceUser};
use super::super::settings::packaged_programs;
use super::super::state_dir::OWN_FILES;
use super::{NEEDS_ROOT, failed, is_root};

/// Boot programs that load another one, without which they are of no use.
const LOADED_BY: [(&str, &str); 4] = [
    ("pxelinux.0", "ldlinux.c32"),
    ("syslinux.efi", "ldlinux.e64"),
    ("shimx64.efi", "grubx64.efi"),
    ("shimaa64.efi", "grubaa64.efi"),
];
/// Maximum number of names of a certificate that are resolved.
const MAX_RESOLVED_NAMES: usize = 4;
/// Files of the state directory that hold secrets.
const SECRETS: [&str; 6] = ["tls.key", "admin.token", "viewer.token", "token.key", "manifest.key", "bootlatch.db"];

/// Observes the boot programs.
pub fn programs(config: &Config) -> Looked<Vec<ProgramState>> {
    let user = privileges::find(config.user.as_deref()).ok().flatten();
    let of_architecture = config.programs.0.iter().map(|(one, program)| (program.to_string(), one.to_string()));
    let of_override =
        config.overrides.iter().map(|one| (one.program.to_string(), "a machine of [[overrides]]".to_owned()));
    let mut wanted: Vec<(String, String)> = of_architecture.chain(of_override).collect();
    for (loader, loaded) in LOADED_BY {
        if wanted.iter().any(|(program, _)| program == loader) {
            wanted.push((loaded.to_owned(), loader.to_owned()));
        }
    }
    wanted.dedup_by(|one, other| one.0 == other.0);
    let packaged = packaged_programs(config);
    let state = |(program, used_by): (String, String)| {
        let path = packaged.iter().find(|(name, _)| *name == program).map(|(_, path)| path.clone());
        let in_directories = || config.firmware_dirs.iter().map(|directory| directory.join(&program));
        let path = path.or_else(|| in_directories().find(|path| path.exists()));
        let path = path.or_else(|| in_directories().next()).unwrap_or_default();
        let file = match std::fs::metadata(&path) {
            Ok(about) => Some(Ok((about.len(), may_read(&path, user.as_ref())))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => Some(Err(error.to_string())),
        };
        ProgramState { path: path.display().to_string(), used_by, file }
    };
    Ok(wanted.into_iter().map(state).collect())
}

/// Returns whether the server's user can read a file, by the permissions of the file and of the directories on the way.
fn may_read(path: &Path, user: Option<&ServiceUser>) -> bool {
    let Some(user) = user else { return true };
    let is_enterable =
        path.ancestors().skip(1).filter(|way| !way.as_os_str().is_empty()).all(|way| may(way, user, 0o1));
    is_enterable && may(path, user, 0o4)
}

/// Returns whether a user has a permission: 4 to read, 1 to enter. A missing file is nobody's fault here.
fn may(path: &Path, user: &ServiceUser, permission: u32) -> bool {
    let (uid, gid) = user.ids();
    let Ok(about) = std::fs::metadata(path) else { return true };
    let shift = match (about.uid() == uid, about.gid() == gid) {
        (true, _) => 6,
        (false, true) => 3,
        (false, false) => 0,
    };
    about.mode() >> shift & permission != 0
}

/// Observes the free space of the state, and of the ISOs if they are on another file system.
pub fn space(config: &Config) -> Looked<Vec<SpaceState>> {
    let mut found: Vec<(u64, SpaceState)> = Vec::new();
    for path in [config.state_dir.clone(), config.state_dir.join("isos")] {
        // Before the first start the directory does not exist: its file system is that of the nearest one above it.
        let Some(existing) = path.ancestors().find(|way| way.exists()) else { continue };
        let what = existing.display().to_string();
        let device = std::fs::metadata(existing).map_err(|error| failed(&what, &error))?.dev();
        let space = FreeSpace::at(existing).map_err(|error| failed(&what, &error))?;
        if found.iter().all(|(known, _)| *known != device) {
            found.push((device, SpaceState { path: what, free: space.free, is_low: space.is_low() }));
        }
    }
    Ok(found.into_iter().map(|(_, state)| state).collect())
}

/// Observes the rights in the state directory, and on the way to it. Before the first start there is none.
pub fn entries(state_dir: &Path, user: Option<&ServiceUser>) -> Looked<Vec<EntryState>> {
    if !is_root() {
        return Err(NEEDS_ROOT.to_owned());
    }
    let parents = state_dir.ancestors().skip(1).filter(|way| !way.as_os_str().is_empty() && way.exists());
    let mut found: Vec<EntryState> = parents.filter_map(|way| entry(way, EntryRole::Parent, user)).collect();
    found.reverse();
    found.extend(entry(state_dir, EntryRole::StateDirectory, user));
    for name in OWN_FILES.into_iter().chain(["bootlatch.db", "isos"]) {
        let role = if SECRETS.contains(&name) { EntryRole::Secret } else { EntryRole::File };
        found.extend(entry(&state_dir.join(name), role, user));
    }
    Ok(found)
}

fn entry(path: &Path, role: EntryRole, user: Option<&ServiceUser>) -> Option<EntryState> {
    use std::os::unix::fs::FileTypeExt;
    let about = std::fs::symlink_metadata(path).ok()?;
    let kind = about.file_type();
    let is_directory = matches!(role, EntryRole::Parent | EntryRole::StateDirectory) || path.ends_with("isos");
    // The directories may be links of the operator's: to another file system.
    let is_odd = !is_directory && !kind.is_file() && !kind.is_socket();
    let uid = user.map_or(0, |user| user.ids().0);
    let about = if kind.is_symlink() { std::fs::metadata(path).ok()? } else { about };
    Some(EntryState {
        path: path.display().to_string(),
        role,
        is_odd,
        is_owned: about.uid() == uid,
        mode: about.mode(),
        is_enterable: user.is_none_or(|user| may(path, user, 0o1)),
    })
}

/// Observes the certificates of the API's listener. One that the server makes at its first start may not exist yet.
pub fn certificates(config: &Config) -> Looked<Vec<CertificateState>> {
    let Some(tls) = config.api.tls.as_ref().filter(|_| config.api.listen.is_some()) else { return Ok(Vec::new()) };
    let made = config.state_dir.join("tls.crt");
    let own = match &tls.certificate {
        Some((chain, _)) => Some(chain.clone()),
        None => made.exists().then_some(made),
    };
    let paths: Vec<PathBuf> = own.into_iter().chain(tls.client_ca.clone()).chain(tls.viewer_ca.clone()).collect();
    if let Some(path) = paths.iter().find(|path| is_denied(path)) {
        return Err(format!("{}: permission denied: {NEEDS_ROOT}", path.display()));
    }
    let state = |path: PathBuf| {
        let chain = read_chain(&path).map(|chain| chain.iter().map(|der| certificate::validity(der)).collect());
        let prefix = format!("{}: ", path.display());
        let chain = chain.map_err(|error| error.to_string().trim_start_matches(&prefix).to_owned());
        CertificateState { path: path.display().to_string(), chain }
    };
    Ok(paths.into_iter().map(state).collect())
}

/// Observes the names of the certificate that the API's listener has; `None` without one.
pub fn certificate_names(config: &Config, addresses: &[IpAddr]) -> Looked<Option<NamedCertificate>> {
    let (Some(listen), Some(tls)) = (config.api.listen, &config.api.tls) else { return Ok(None) };
    let path = tls.certificate.as_ref().map_or_else(|| config.state_dir.join("tls.crt"), |(chain, _)| chain.clone());
    if is_denied(&path) {
        return Err(format!("{}: permission denied: {NEEDS_ROOT}", path.display()));
    }
    let chain = read_chain(&path).unwrap_or_default();
    let Some(names) = chain.first().and_then(|own| certificate::names(own)) else { return Ok(None) };
    let served = if listen.ip().is_unspecified() { addresses.to_vec() } else { vec![listen.ip()] };
    // A wildcard stands for names that are not known here.
    let leads_here = |name: &String| {
        name.starts_with("*.") || {
            let mut found = (name.as_str(), listen.port()).to_socket_addrs().into_iter().flatten();
            found.any(|address| served.contains(&address.ip()))
        }
    };
    let is_named = served.iter().all(|address| names.addresses.contains(address));
    let has_usable_name = !is_named && names.dns.iter().take(MAX_RESOLVED_NAMES).any(leads_here);
    Ok(Some(NamedCertificate { path: path.display().to_string(), names, served, has_usable_name }))
}

fn is_denied(path: &Path) -> bool {
    std::fs::File::open(path).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// Returns the faults of the manifests' texts.
pub fn manifests(config: &Config) -> Looked<Vec<String>> {
    let Some(directory) = &config.manifests else { return Ok(Vec::new()) };
    match manifest::check(directory, &config.namespace) {
        Ok(wrong) => Ok(wrong.iter().map(ToString::to_string).collect()),
        Err(error) => Ok(vec![error.to_string()]),
    }
}
