//! Test of the folder to copy: `bot/` compiles without the demo, since none of its files names `demo`.

use std::{fs, path::Path};

#[test]
fn no_file_of_the_bot_imports_the_demo() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bot")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let code = || text.lines().filter(|line| !line.trim_start().starts_with("//"));
            assert!(!code().any(|line| line.contains("demo")), "{}", path.display());
            files += 1;
        }
    }
    assert!(files > 9);
}
