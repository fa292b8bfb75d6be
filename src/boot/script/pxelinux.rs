use super::super::Verdict;
use super::Context;

/// Writes a PXELINUX configuration. Files are named relative to the TFTP root.
pub fn render(verdict: &Verdict, context: &Context<'_>) -> String {
    let mut say = format!("SAY bootlatch: {}\n", context.name());
    let label = match verdict {
        Verdict::SanBoot(_) => context.kernel().map(|kernel| {
            let initrds: Vec<_> = kernel.initrds.iter().map(|path| kernel.place(path)).collect();
            let initrd = if initrds.is_empty() { String::new() } else { format!("  INITRD {}\n", initrds.join(",")) };
            format!("  KERNEL {}\n{initrd}  APPEND {}\n", kernel.place(kernel.path), kernel.words.join(" "))
        }),
        Verdict::Ignore(_)
        | Verdict::Enrol(_)
        | Verdict::Chainload(_)
        | Verdict::Wait(_)
        | Verdict::Menu
        | Verdict::Configure(_)
        | Verdict::LocalDisk(_) => None,
    };
    if let (Verdict::SanBoot(image), None) = (verdict, &label) {
        say += &format!("SAY No kernel was found in {image}: booting the local disk\n");
    }
    if let Verdict::Wait(image) = verdict {
        say += &format!("SAY {image} cannot be served now: booting the local disk\n");
    }
    // LOCALBOOT 0 asks the PXE stack for a normal local boot.
    let label = label.unwrap_or_else(|| "  LOCALBOOT 0\n".to_owned());
    format!("DEFAULT bootlatch\nPROMPT 0\nTIMEOUT 10\n{say}LABEL bootlatch\n{label}")
}
