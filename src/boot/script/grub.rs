use super::super::Verdict;
use super::Context;

/// Writes a GRUB configuration, for the signed GRUB of a Secure Boot chain: it fetches over HTTP.
pub fn render(verdict: &Verdict, context: &Context<'_>) -> String {
    let head = format!("set timeout=0\necho 'bootlatch: {}'\n", context.name());
    let kernel = match context.boots(verdict) {
        Ok(kernel) => kernel,
        Err(why) => {
            let why = if why.is_empty() { why } else { format!("echo '{why}'\n") };
            return format!("{head}{why}{}", to_disk(context));
        }
    };
    let device = format!("(http,{})", context.site.http);
    let file = |path: &str| format!("{device}/{}", kernel.place(path));
    let words: Vec<_> = kernel.words.iter().map(|word| quoted(word)).collect();
    let initrds: Vec<_> = kernel.initrds.iter().map(|path| file(path)).collect();
    let initrd = if initrds.is_empty() { String::new() } else { format!("initrd {}\n", initrds.join(" ")) };
    format!("{head}linux {} {}\n{initrd}boot\n", file(kernel.path), words.join(" "))
}

/// Starts the disk's own loader. Where that cannot be, GRUB ends and the firmware goes on to its next boot option:
/// on OVMF the set-up menu, should nothing else be left. GRUB's script knows no `&&`.
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

/// Keeps GRUB from reading `;`, `$` and the like in an argument.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "=.,:/_-+@%".contains(c);
    match word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}
