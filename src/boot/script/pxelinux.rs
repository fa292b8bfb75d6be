use super::super::Verdict;
use super::Context;

/// Renders a verdict as a PXELINUX configuration, with paths relative to the TFTP root.
pub fn render(verdict: &Verdict, context: &Context<'_>) -> String {
    let mut say = format!("SAY bootlatch: {}\n", context.name());
    let label = match context.kernel_for(verdict) {
        Ok(kernel) => {
            let initrds: Vec<_> = kernel.initrds.iter().map(|path| kernel.url_path(path)).collect();
            let initrd = if initrds.is_empty() { String::new() } else { format!("  INITRD {}\n", initrds.join(",")) };
            format!("  KERNEL {}\n{initrd}  APPEND {}\n", kernel.url_path(kernel.path), kernel.words.join(" "))
        }
        Err(why) => {
            if !why.is_empty() {
                say += &format!("SAY {why}\n");
            }
            // LOCALBOOT 0 asks the PXE stack for a normal local boot.
            "  LOCALBOOT 0\n".to_owned()
        }
    };
    format!("DEFAULT bootlatch\nPROMPT 0\nTIMEOUT 10\n{say}LABEL bootlatch\n{label}")
}
