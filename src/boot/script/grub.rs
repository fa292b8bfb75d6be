use super::super::Verdict;
use super::Context;

/// Writes a GRUB configuration, for the signed GRUB of a Secure Boot chain: it fetches over HTTP.
pub fn render(verdict: &Verdict, context: &Context<'_>) -> String {
    let head = format!("set timeout=0\necho 'bootlatch: {}'\n", context.name());
    let boots = match verdict {
        Verdict::SanBoot(_) => context.kernel(),
        Verdict::Ignore(_)
        | Verdict::Enrol(_)
        | Verdict::Chainload(_)
        | Verdict::Menu
        | Verdict::Configure(_)
        | Verdict::LocalDisk(_) => None,
    };
    let Some(kernel) = boots else {
        // GRUB ends with the firmware's next boot option; the disk's own loader goes before it.
        return format!(
            "{head}search --no-floppy --set=root --file /EFI/BOOT/BOOTX64.EFI --hint hd0,gpt1\nchainloader /EFI/BOOT/BOOTX64.EFI && boot\nexit\n"
        );
    };
    let device = format!("(http,{})", context.site.http);
    let file = |path: &str| format!("{device}/{}", kernel.place(path));
    let words: Vec<_> = kernel.words.iter().map(|word| quoted(word)).collect();
    let initrds: Vec<_> = kernel.initrds.iter().map(|path| file(path)).collect();
    let initrd = if initrds.is_empty() { String::new() } else { format!("initrd {}\n", initrds.join(" ")) };
    format!("{head}linux {} {}\n{initrd}boot\n", file(kernel.path), words.join(" "))
}

/// Keeps GRUB from reading `;`, `$` and the like in an argument.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "=.,:/_-+@%".contains(c);
    match word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}
