//! What will not work at the boot of a host's image, as far as it is known when the image is assigned.

use crate::fleet::lifecycle::Completion;
use crate::fleet::{
    Architecture, AttachAs, BootConfig, BootMode, BootRisk, Delivery, Firmwares, Host, Image, KernelSize, Mac, Method,
    Name, Phase,
};

/// What a boot of a host depends on.
#[derive(Debug, Clone)]
pub struct BootReferences<'a> {
    /// The image that the host boots.
    pub image: &'a Image,
    /// The config of its installer.
    pub config: Option<&'a BootConfig>,
    /// Whether the machine reports its completed install by the config, as far as the files tell.
    pub reports_completion: Option<bool>,
    /// The one other host that boots an image and claims the UUID of this one's machine.
    pub same_machine: Option<(Name, Mac)>,
    /// What ends an install.
    pub completion: Completion,
}

/// A warning of a host's boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootWarning {
    /// The reason.
    pub risk: BootRisk,
    /// The field, what will happen, and what to do.
    pub message: String,
}

/// Returns what will not work at the boot of a host's image, or has no effect on it.
pub fn boot_warnings(host: &Host, found: &BootReferences<'_>) -> Vec<BootWarning> {
    let image = found.image;
    let mut warnings = Vec::new();
    let mut warn = |risk, message| warnings.push(BootWarning { risk, message });
    let name = &image.metadata.name;
    if image.status.is_broken() {
        warn(BootRisk::ImageBroken, format!("spec.image: {name} cannot be served: {}", image.status.message));
    }
    if let Some(place) = image.spec.remote_location() {
        if !host.spec.kernel_arguments.is_empty() {
            let message = format!(
                "spec.kernelArguments: no effect on the kernel of {name}: another server serves its ISO ({place})"
            );
            warn(BootRisk::ArgumentsNotAdded, message);
        }
    } else if !loads_kernel(image) {
        loader_warnings(host, image, &mut warn);
    }
    if let Some(message) = memory_warning(host, image) {
        warn(BootRisk::MemoryTooSmall, message);
    }
    if let Some(message) = completion_warning(host, found) {
        warn(BootRisk::CompletionNotReported, message);
    }
    if let Some((other, mac)) = &found.same_machine {
        let message = format!(
            "spec.image: the firmware of host {other} ({mac}) claims the same UUID, and that host boots an image as well: if \
             both are interfaces of one machine, it is installed over each of them; assign the image to one"
        );
        warn(BootRisk::SecondInterface, message);
    }
    warnings
}

/// Returns whether iPXE loads the kernel of an image, with the arguments that the host needs.
fn loads_kernel(image: &Image) -> bool {
    matches!(image.spec.method, Method::Kernel | Method::Sanhook) && image.status.kernel.is_some()
}

/// Returns the warning that a machine's memory cannot hold what iPXE loads. The rule is a lower bound: an initrd is in
/// memory twice while the kernel unpacks it, and is not smaller then. An ISO that the installer fetches whole by an argument
/// of the image (`url=`, `fetch=`) is in memory as well.
fn memory_warning(host: &Host, image: &Image) -> Option<String> {
    let memory = host.status.hardware.as_ref()?.ram_mebibytes?;
    let KernelSize { kernel_bytes, initrd_bytes } =
        image.status.kernel_size.filter(|_| image.spec.method == Method::Kernel)?;
    let is_whole = |argument: &String| {
        let value = ["url=", "iso-url=", "fetch=", "root=live:"].iter().find_map(|key| argument.strip_prefix(key));
        value.is_some_and(|value| value.ends_with(".iso") || value.ends_with(&format!("/iso/{}", image.metadata.name)))
    };
    let fetched = image.spec.kernel_arguments.iter().chain(&host.spec.kernel_arguments).any(is_whole);
    let fetched_bytes = image.status.size_bytes.filter(|_| fetched).unwrap_or_default();
    let needed = kernel_bytes.saturating_add(initrd_bytes.saturating_mul(2)).saturating_add(fetched_bytes) >> 20;
    (needed > memory).then(|| {
        let whole = if fetched_bytes > 0 { ", and the ISO that it fetches" } else { "" };
        format!(
            "spec.image: the kernel of {} with its initrds, unpacked{whole}, needs more than {needed} MiB, and the machine has \
             {memory} MiB: use method sanboot, a smaller image, or more memory",
            image.metadata.name
        )
    })
}

/// Warns about an image that boots by its own loader and its own menus, or should not.
fn loader_warnings(host: &Host, image: &Image, warn: &mut impl FnMut(BootRisk, String)) {
    let (name, lines) = (&image.metadata.name, image.status.kernel_lines);
    if let Some(message) = firmware_warning(host, image) {
        warn(BootRisk::NoLoader, message);
    }
    let without_kernel = match image.spec.method {
        Method::Kernel => Some(BootRisk::KernelNotFound),
        Method::Sanhook => Some(BootRisk::LoaderInstead),
        Method::Sanboot | Method::Http | Method::Chain => None,
    };
    if let Some(risk) = without_kernel.filter(|_| lines.is_some()) {
        warn(risk, format!("spec.image: no kernel of {name} can be loaded; see the warnings of the ISO"));
    }
    if lines == Some(0) {
        let reason = format!("no boot menu of {name} has a kernel line; every host sees the ISO as it is");
        if !host.spec.kernel_arguments.is_empty() {
            warn(BootRisk::ArgumentsNotAdded, format!("spec.kernelArguments: no effect: {reason}"));
        }
        if host.spec.boot_config_ref.is_some() && image.spec.config_delivery == Delivery::Auto {
            let message = format!("spec.bootConfigRef: the installer does not get the address of its config: {reason}");
            warn(BootRisk::ArgumentsNotAdded, message);
        }
    }
}

/// Returns the warning that an image has no boot loader for the machine's firmware.
fn firmware_warning(host: &Host, image: &Image) -> Option<String> {
    let name = &image.metadata.name;
    let Firmwares { bios, uefi } = image.status.boots.filter(|_| image.spec.method != Method::Kernel)?;
    if !bios && !uefi {
        // Firmware may find a loader in the partitions of a disk.
        return (image.spec.attach_as == AttachAs::Cdrom).then(|| {
            format!("spec.image: {name} has no boot loader for any firmware: use another ISO, or method kernel")
        });
    }
    let firmware = host.status.firmware.filter(|firmware| *firmware != Architecture::UNKNOWN)?;
    let (has, lacks) = match (bios, uefi) {
        (true, false) if firmware.is_uefi() => ("BIOS", "UEFI"),
        (false, true) if !firmware.is_uefi() => ("UEFI", "BIOS"),
        _ => return program_warning(firmware, image),
    };
    Some(format!(
        "spec.image: {name} boots with {has} only, and the machine's firmware is {lacks} ({firmware}): change the boot mode \
         in its setup, or use another ISO"
    ))
}

/// Returns the warning that the UEFI boot loaders of an image are for other architectures than the machine's.
fn program_warning(firmware: Architecture, image: &Image) -> Option<String> {
    let (wanted, found) = (firmware.uefi_program()?, image.status.uefi_programs.as_ref()?);
    let is_missing = image.spec.attach_as == AttachAs::Cdrom && !found.iter().any(|program| program == wanted);
    is_missing.then(|| {
        format!(
            "spec.image: {} has no boot loader for the machine's firmware ({firmware}): it has {}, and not {wanted}; use an \
             ISO for this architecture",
            image.metadata.name,
            found.join(", ")
        )
    })
}

/// Returns the warning that the install waits for a report that the config does not contain.
fn completion_warning(host: &Host, found: &BootReferences<'_>) -> Option<String> {
    let config = found.config.filter(|_| found.reports_completion == Some(false))?;
    let waits = found.completion == Completion::BootComplete
        && host.spec.boot_mode == BootMode::Once
        // Whatever reported it last time will do so again.
        && host.status.phase != Phase::Installed
        && found.image.spec.config_delivery != Delivery::None;
    waits.then(|| {
        format!(
            "spec.bootConfigRef: {} never reports that the install is complete, and install.completion waits for it: the \
             machine would install again at its next boot; add the call of /api/v1/boot-complete",
            config.metadata.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{
        BootConfigSpec, Format, HardwareDetails, HostSpec, HostStatus, ImageSpec, ImageStatus, KernelFiles, Meta,
        Portal,
    };

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn meta(text: &str) -> Meta {
        Meta::named(name(text), None)
    }

    /// A boot in which everything is as it should be.
    struct Scene {
        host: Host,
        image: Image,
        config: BootConfig,
        same_machine: Option<(Name, Mac)>,
        completion: Completion,
    }

    impl Scene {
        fn new() -> Self {
            let mut spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1]));
            (spec.image, spec.boot_config_ref) = ("live".parse().unwrap(), Some(name("c")));
            let status = HostStatus { firmware: Some(Architecture(7)), ..HostStatus::default() };
            let host = Host { metadata: meta("h"), spec, status };
            let status = ImageStatus {
                phase: ImageStatus::READY.into(),
                boots: Some(Firmwares { bios: true, uefi: true }),
                uefi_programs: Some(vec!["BOOTIA32.EFI".into(), "BOOTX64.EFI".into()]),
                kernel_lines: Some(2),
                ..ImageStatus::default()
            };
            let image = Image { metadata: meta("live"), spec: ImageSpec::of_file("a.iso"), status };
            let spec = BootConfigSpec {
                format: Format::Kickstart,
                data: Default::default(),
                binary_data: Default::default(),
                confidential: false,
                template: None,
            };
            let status = [(BootConfig::REPORTS_COMPLETION.to_owned(), true.into())].into();
            let config = BootConfig { metadata: meta("c"), spec, status };
            Self { host, image, config, same_machine: None, completion: Completion::BootComplete }
        }

        fn warnings(&self) -> Vec<BootWarning> {
            let config = self.host.spec.boot_config_ref.as_ref().map(|_| &self.config);
            let (same_machine, completion) = (self.same_machine.clone(), self.completion);
            let reports_completion = config.and_then(BootConfig::reports_completion);
            let image = &self.image;
            boot_warnings(&self.host, &BootReferences { image, config, reports_completion, same_machine, completion })
        }
    }

    #[test]
    fn an_initrd_fits_into_memory_packed_and_unpacked() {
        const MIB: u64 = 1 << 20;
        let needed = |memory: Option<u64>, method: Method, argument: Option<&str>| {
            let mut scene = Scene::new();
            scene.image.spec.method = method;
            scene.image.spec.kernel_arguments.extend(argument.map(str::to_owned));
            scene.image.status.kernel = Some(KernelFiles::default());
            scene.image.status.size_bytes = Some(900 * MIB);
            scene.image.status.kernel_size = Some(KernelSize { kernel_bytes: 10 * MIB, initrd_bytes: 100 * MIB });
            let hardware = HardwareDetails { ram_mebibytes: memory, ..HardwareDetails::default() };
            scene.host.status.hardware = Some(Box::new(hardware));
            scene.warnings().into_iter().map(|warning| (warning.risk, warning.message)).next()
        };
        let (risk, message) = needed(Some(209), Method::Kernel, None).unwrap();
        assert_eq!(risk, BootRisk::MemoryTooSmall);
        assert!(message.contains("more than 210 MiB, and the machine has 209 MiB"), "{message}");
        for whole in ["url=http://10.77.0.2/iso/live", "root=live:http://10.77.0.2/a.iso"] {
            let (_, message) = needed(Some(1000), Method::Kernel, Some(whole)).unwrap();
            assert!(message.contains("the ISO that it fetches") && message.contains("1110 MiB"), "{message}");
        }
        let fits = [(Some(210), Method::Kernel), (None, Method::Kernel), (Some(1), Method::Sanboot)];
        for (memory, method) in fits {
            assert_eq!(needed(memory, method, Some("url=http://10.77.0.2/seed/")), None, "{memory:?}");
        }
    }

    type Edit = fn(&mut Scene);

    fn set_boots(scene: &mut Scene, bios: bool, uefi: bool, firmware: Option<u16>) {
        scene.image.status.boots = Some(Firmwares { bios, uefi });
        scene.host.status.firmware = firmware.map(Architecture);
    }

    #[test]
    fn a_boot_as_it_should_be_has_no_warning() {
        let harmless: [Edit; 12] = [
            |_| {},
            |scene| set_boots(scene, true, false, Some(0)),
            |scene| set_boots(scene, true, false, None),
            |scene| set_boots(scene, true, false, Some(u16::MAX)),
            |scene| set_boots(scene, false, true, Some(7)),
            |scene| scene.host.status.firmware = Some(Architecture(6)),
            |scene| (scene.image.status.uefi_programs, scene.host.status.firmware) = (None, Some(Architecture(11))),
            |scene| scene.image.status = ImageStatus::default(),
            |scene| scene.image.status.kernel_lines = None,
            |scene| {
                (scene.image.status.kernel_lines, scene.host.spec.boot_config_ref) = (Some(0), None);
            },
            |scene| {
                (scene.image.spec.method, scene.image.status.kernel) = (Method::Kernel, Some(KernelFiles::default()));
                set_boots(scene, false, false, Some(7));
                scene.image.status.kernel_lines = Some(0);
            },
            |scene| {
                (scene.image.status.kernel_lines, scene.image.spec.config_delivery) = (Some(0), Delivery::Seed);
            },
        ];
        for (index, edit) in harmless.iter().enumerate() {
            let mut scene = Scene::new();
            edit(&mut scene);
            assert_eq!(scene.warnings(), [], "row {index}");
        }
    }

    #[test]
    fn what_will_not_work_is_said_with_its_field() {
        use BootRisk::{ArgumentsNotAdded, ImageBroken, KernelNotFound, LoaderInstead, NoLoader, SecondInterface};
        let rows: [(Edit, &[(BootRisk, &str)]); 13] = [
            (|scene| set_boots(scene, true, false, Some(7)), &[(NoLoader, "spec.image: live boots with BIOS only")]),
            (|scene| set_boots(scene, false, true, Some(0)), &[(NoLoader, "machine's firmware is BIOS")]),
            (|scene| set_boots(scene, false, false, None), &[(NoLoader, "no boot loader for any firmware")]),
            (
                |scene| set_boots(scene, true, true, Some(19)),
                &[(NoLoader, "it has BOOTIA32.EFI, BOOTX64.EFI, and not BOOTAA64.EFI")],
            ),
            (
                |scene| {
                    let status = &mut scene.image.status;
                    (status.phase, status.message) = (ImageStatus::BROKEN.into(), "a.iso: no such file".into());
                },
                &[(ImageBroken, "spec.image: live cannot be served: a.iso: no such file")],
            ),
            (
                |scene| scene.image.spec.method = Method::Kernel,
                &[(KernelNotFound, "spec.image: no kernel of live can be loaded")],
            ),
            (
                |scene| (scene.image.spec.method, scene.image.status.kernel_lines) = (Method::Kernel, Some(0)),
                &[(KernelNotFound, "spec.image"), (ArgumentsNotAdded, "spec.bootConfigRef")],
            ),
            (|scene| scene.image.spec.method = Method::Sanhook, &[(LoaderInstead, "spec.image")]),
            (
                |scene| {
                    scene.image.spec.method = Method::Sanhook;
                    set_boots(scene, true, false, Some(7));
                },
                &[(NoLoader, "boots with BIOS only"), (LoaderInstead, "spec.image")],
            ),
            (
                |scene| scene.image.status.kernel_lines = Some(0),
                &[(ArgumentsNotAdded, "spec.bootConfigRef: the installer does not get the address of its config")],
            ),
            (
                |scene| {
                    scene.image.status.kernel_lines = Some(0);
                    scene.host.spec.kernel_arguments = vec!["a".into()];
                },
                &[(ArgumentsNotAdded, "spec.kernelArguments: no effect"), (ArgumentsNotAdded, "spec.bootConfigRef")],
            ),
            (
                |scene| {
                    let (address, target_iqn) = (std::net::Ipv4Addr::LOCALHOST.into(), "iqn.2000-01.x:a".to_owned());
                    scene.image.spec.portal = Some(Portal { address, port: 3260, target_iqn, chap: None });
                    scene.host.spec.kernel_arguments = vec!["a".into()];
                },
                &[(ArgumentsNotAdded, "another server serves its ISO")],
            ),
            (
                |scene| scene.same_machine = Some((name("other"), Mac([2, 0, 0, 0, 0, 2]))),
                &[(SecondInterface, "host other (02:00:00:00:00:02)")],
            ),
        ];
        for (index, (edit, expected)) in rows.iter().enumerate() {
            let mut scene = Scene::new();
            edit(&mut scene);
            let found = scene.warnings();
            let risks: Vec<_> = found.iter().map(|warning| warning.risk).collect();
            assert_eq!(risks, expected.iter().map(|(risk, _)| *risk).collect::<Vec<_>>(), "row {index}");
            for (warning, (_, part)) in found.iter().zip(*expected) {
                assert!(warning.message.contains(part), "row {index}: {}", warning.message);
            }
        }
    }

    #[test]
    fn a_report_is_missed_only_where_something_waits_for_it() {
        let rows: [(bool, Edit); 8] = [
            (true, |_| {}),
            (true, |scene| scene.host.status.phase = Phase::Failed),
            (false, |scene| scene.host.status.phase = Phase::Installed),
            (false, |scene| scene.host.spec.boot_mode = BootMode::Forever),
            (false, |scene| scene.completion = Completion::ConfigFetched),
            (false, |scene| scene.completion = Completion::ScriptFetched),
            (false, |scene| scene.image.spec.config_delivery = Delivery::None),
            (false, |scene| scene.config.status.clear()),
        ];
        for (index, (is_missed, edit)) in rows.iter().enumerate() {
            let mut scene = Scene::new();
            scene.config.status.insert(BootConfig::REPORTS_COMPLETION.into(), false.into());
            edit(&mut scene);
            let risks: Vec<_> = scene.warnings().iter().map(|warning| warning.risk).collect();
            let expected: &[BootRisk] = if *is_missed { &[BootRisk::CompletionNotReported] } else { &[] };
            assert_eq!(risks, expected, "row {index}");
        }
    }
}
