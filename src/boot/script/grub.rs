use super::super::Verdict;
use super::Context;

/// Renders a verdict as a GRUB configuration, for the signed GRUB of Secure Boot, which fetches files over HTTP.
pub fn render(verdict: &Verdict, context: &Context<'_>) -> String {
    let head = format!("set timeout=0\necho 'bootlatch: {}'\n", context.name());
    let kernel = match context.kernel_for(verdict) {
        Ok(kernel) => kernel,
        Err(why) => {
            let why = if why.is_empty() { why } else { format!("echo '{why}'\n") };
            return format!("{head}{why}{}", to_disk(context));
        }
    };
    let device = format!("(http,{})", context.site.http);
    let file = |path: &str| format!("{device}/{}", kernel.url_path(path));
    let words: Vec<_> = kernel.words.iter().map(|word| quoted(word)).collect();
    let initrds: Vec<_> = kernel.initrds.iter().map(|path| file(path)).collect();
    let initrd = if initrds.is_empty() { String::new() } else { format!("initrd {}\n", initrds.join(" ")) };
    format!("{head}linux {} {}\n{initrd}boot\n", file(kernel.path), words.join(" "))
}

/// Renders the start of the local disk's loader. Without one, GRUB exits and the firmware tries its next boot option; OVMF
/// opens its set-up menu after the last. GRUB's script language has no `&&`.
fn to_disk(context: &Context<'_>) -> String {
    let own = context.host.and_then(|host| host.spec.local_disk.as_ref()?.filename.clone());
    let set = match own {
        Some(file) => format!("set loader={}\n", quoted(&file.replace('\\', "/"))),
        None => "set loader=/EFI/BOOT/BOOTX64.EFI\n\
                 if [ \"$grub_cpu\" = arm64 ]; then set loader=/EFI/BOOT/BOOTAA64.EFI; fi\n"
            .to_owned(),
    };
    format!(
        "{set}if search --no-floppy --set=root --file \"$loader\" --hint hd0,gpt1; then\n  \
         if chainloader \"$loader\"; then boot; fi\nfi\nexit 1\n"
    )
}

/// Quotes an argument with characters that are special to GRUB.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "=.,:/_-+@%".contains(c);
    match word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}
