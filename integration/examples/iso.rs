//! Prints what an ISO says of itself.
use bootlatch::iso;
fn main() -> anyhow::Result<()> {
    for path in std::env::args().skip(1) {
        let image = iso::ImageFile::new(std::fs::File::open(&path)?)?;
        match iso::examine(&image) {
            Ok(it) => println!("{path}: {:?} {it:#?}", it.firmwares()),
            Err(e) => println!("{path}: REFUSED {e}"),
        }
    }
    Ok(())
}
