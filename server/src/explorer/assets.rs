//! The files of the page, compiled into the binary. Owns their names, kinds and etags; there is no build step, what is
//! in `assets/` is what a browser gets.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// A file.
#[derive(Debug)]
pub(super) struct Asset {
    name: &'static str,
    pub(super) kind: &'static str,
    pub(super) bytes: &'static [u8],
}

impl Asset {
    /// Names the file's content: its hash.
    pub(super) fn etag(&self) -> String {
        let known = ETAGS.iter().find(|(name, _)| *name == self.name);
        known.map(|(_, etag)| etag.clone()).unwrap_or_default()
    }
}

macro_rules! asset {
    ($name:literal, $file:literal, $kind:ident) => {
        Asset { name: $name, kind: $kind, bytes: include_bytes!(concat!("assets/", $file)) }
    };
}

static ASSETS: &[Asset] = &[
    asset!("", "index.html", HTML),
    asset!("style.css", "style.css", CSS),
    asset!("parts.css", "parts.css", CSS),
    asset!("icon.svg", "icon.svg", SVG),
    asset!("app.js", "app.js", SCRIPT),
    asset!("api.js", "api.js", SCRIPT),
    asset!("dom.js", "dom.js", SCRIPT),
    asset!("json.js", "json.js", SCRIPT),
    asset!("diff.js", "diff.js", SCRIPT),
    asset!("diffview.js", "diffview.js", SCRIPT),
    asset!("merge.js", "merge.js", SCRIPT),
    asset!("sidebar.js", "sidebar.js", SCRIPT),
    asset!("items.js", "items.js", SCRIPT),
    asset!("query.js", "query.js", SCRIPT),
    asset!("document.js", "document.js", SCRIPT),
    asset!("editor.js", "editor.js", SCRIPT),
    asset!("conflict.js", "conflict.js", SCRIPT),
    asset!("feed.js", "feed.js", SCRIPT),
    asset!("dashboard.js", "dashboard.js", SCRIPT),
    asset!("chart.js", "chart.js", SCRIPT),
];

static ETAGS: LazyLock<Vec<(&'static str, String)>> = LazyLock::new(|| {
    let etag = |asset: &Asset| {
        let hash = Sha256::digest(asset.bytes);
        let hash = hash.get(..12).unwrap_or_default();
        (asset.name, format!("\"{}\"", URL_SAFE_NO_PAD.encode(hash)))
    };
    ASSETS.iter().map(etag).collect()
});

/// Finds a file by its name.
pub(super) fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the content security policy would refuse, and what would let a document's text become markup.
    #[test]
    fn no_inline_script_or_style_and_no_text_that_becomes_markup() {
        for asset in ASSETS {
            let text = std::str::from_utf8(asset.bytes).expect("text");
            for banned in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "javascript:",
                "http://",
            ] {
                let allowed = banned == "http://" && text.contains("http://www.w3.org/2000/svg");
                assert!(allowed || !text.contains(banned), "{} uses {banned}", asset.name);
            }
            if asset.kind == HTML {
                assert!(!text.contains(" style=") && !text.contains(" onclick") && !text.contains("<script>"));
            }
        }
    }

    #[test]
    fn the_page_names_every_script_so_that_none_waits_for_another() {
        let page = std::str::from_utf8(find("").expect("the page").bytes).expect("text");
        for asset in ASSETS.iter().filter(|asset| asset.kind == SCRIPT || asset.kind == CSS) {
            assert!(page.contains(&format!("\"/_explorer/{}\"", asset.name)), "{} is not named", asset.name);
        }
    }

    #[test]
    fn files_are_small_and_their_etags_differ() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.bytes.len()).sum();
        assert!(bytes < 200_000, "{bytes} bytes");
        let mut etags: Vec<String> = ASSETS.iter().map(Asset::etag).collect();
        etags.sort();
        etags.dedup();
        assert_eq!(etags.len(), ASSETS.len());
    }
}
