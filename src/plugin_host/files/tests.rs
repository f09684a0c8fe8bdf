//! What a guest can do in a granted folder, through the functions that it calls.

use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView};
use wasmtime_wasi::p2::FsResult;
use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, HostDescriptor as _, OpenFlags, PathFlags,
};

use super::*;

/// A guest's view of its folders.
struct Guest {
    ctx: WasiCtx,
    table: ResourceTable,
}

impl Guest {
    fn new(folders: &Folders) -> Self {
        let mut builder = WasiCtxBuilder::new();
        folders.add_to(&mut builder).unwrap();
        Self { ctx: builder.build(), table: ResourceTable::new() }
    }

    fn files(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView { ctx: self.ctx.filesystem(), table: &mut self.table }
    }

    /// The folder that the guest knows as `name`. (Resources are borrowed by number, as a guest does.)
    fn folder(&mut self, name: &str) -> u32 {
        let folders = self.files().get_directories().unwrap();
        folders.into_iter().find(|(_, guest)| guest == name).unwrap().0.rep()
    }

    async fn open(&mut self, folder: u32, path: &str, flags: DescriptorFlags) -> FsResult<u32> {
        self.open_with(folder, path, OpenFlags::empty(), flags).await
    }

    async fn open_with(
        &mut self,
        folder: u32,
        path: &str,
        how: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<u32> {
        let follow = PathFlags::SYMLINK_FOLLOW;
        let opened = self.files().open_at(at(folder), follow, path.to_owned(), how, flags).await?;
        Ok(opened.rep())
    }

    async fn read(&mut self, folder: u32, path: &str) -> FsResult<String> {
        let file = self.open(folder, path, DescriptorFlags::READ).await?;
        let (bytes, _) = self.files().read(at(file), 1_000, 0).await?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    async fn write(&mut self, folder: u32, path: &str, text: &str) -> FsResult<()> {
        let file = self.open_with(folder, path, OpenFlags::CREATE, DescriptorFlags::WRITE).await?;
        self.files().write(at(file), text.into(), 0).await?;
        Ok(())
    }
}

fn at(number: u32) -> Resource<Descriptor> {
    Resource::new_borrow(number)
}

/// A machine with a secret beside the folders that plugins get.
fn machine() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for folder in ["read", "write", "plugins", "outside"] {
        fs::create_dir(root.path().join(folder)).unwrap();
    }
    fs::write(root.path().join("read/list.txt"), "listed").unwrap();
    fs::write(root.path().join("outside/secret.txt"), "secret").unwrap();
    symlink("../outside/secret.txt", root.path().join("read/link.txt")).unwrap();
    symlink(root.path().join("outside"), root.path().join("read/absolute")).unwrap();
    symlink("list.txt", root.path().join("read/inner.txt")).unwrap();
    root
}

fn both(root: &TempDir) -> Folders {
    let (read, write) = (root.path().join("read"), root.path().join("write"));
    let grants = [
        FolderGrant { host: &read, guest: "/read", writable: false },
        FolderGrant { host: &write, guest: "/write", writable: true },
    ];
    Folders::open(grants, &[]).unwrap()
}

#[tokio::test]
async fn a_guest_stays_in_its_folder() {
    let root = machine();
    let mut guest = Guest::new(&both(&root));
    let folder = guest.folder("/read");
    assert_eq!(guest.read(folder, "list.txt").await.unwrap(), "listed");
    assert_eq!(guest.read(folder, "inner.txt").await.unwrap(), "listed");
    let absolute = root.path().join("outside/secret.txt");
    for path in [
        "../outside/secret.txt",
        "./../outside/secret.txt",
        "link.txt",
        "absolute/secret.txt",
        "/etc/hostname",
        absolute.to_str().unwrap(),
    ] {
        assert!(guest.read(folder, path).await.is_err(), "{path} is read");
    }
    // A link that the guest makes itself leads out as little.
    let folder = guest.folder("/write");
    let made = guest.files().symlink_at(at(folder), "../outside".to_owned(), "out".to_owned()).await;
    assert!(made.is_err() || guest.read(folder, "out/secret.txt").await.is_err());
    assert!(guest.write(folder, "../outside/new.txt", "text").await.is_err());
    assert!(!root.path().join("outside/new.txt").exists());
}

#[tokio::test]
async fn a_folder_granted_for_reading_does_not_change() {
    let root = machine();
    let mut guest = Guest::new(&both(&root));
    let (read, write) = (guest.folder("/read"), guest.folder("/write"));
    let name = |name: &str| name.to_owned();
    assert!(guest.write(read, "list.txt", "changed").await.is_err());
    assert!(guest.write(read, "new.txt", "new").await.is_err());
    let truncated = guest.open_with(read, "list.txt", OpenFlags::TRUNCATE, DescriptorFlags::READ).await;
    assert!(truncated.is_err());
    let opened = guest.open(read, "list.txt", DescriptorFlags::READ).await.unwrap();
    assert!(guest.files().set_size(at(opened), 0).await.is_err());
    assert!(guest.files().write_via_stream(at(opened), 0).is_err());
    assert!(guest.files().append_via_stream(at(opened)).is_err());
    let mut files = guest.files();
    assert!(files.create_directory_at(at(read), name("new")).await.is_err());
    assert!(files.unlink_file_at(at(read), name("list.txt")).await.is_err());
    assert!(files.symlink_at(at(read), name("list.txt"), name("again")).await.is_err());
    assert!(files.rename_at(at(read), name("list.txt"), at(read), name("moved")).await.is_err());
    // Out of the folder, and into it.
    assert!(files.rename_at(at(read), name("list.txt"), at(write), name("moved")).await.is_err());
    let follow = PathFlags::empty();
    let linked = files.link_at(at(read), follow, name("list.txt"), at(write), name("linked")).await;
    assert!(linked.is_err(), "a second name in a writable folder would make the file writable");
    guest.write(write, "mine.txt", "mine").await.unwrap();
    let mut files = guest.files();
    assert!(files.rename_at(at(write), name("mine.txt"), at(read), name("mine.txt")).await.is_err());
    let linked = files.link_at(at(write), follow, name("mine.txt"), at(read), name("mine.txt")).await;
    assert!(linked.is_err());

    let mut left: Vec<_> =
        fs::read_dir(root.path().join("read")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["absolute", "inner.txt", "link.txt", "list.txt"]);
    assert_eq!(fs::read_to_string(root.path().join("read/list.txt")).unwrap(), "listed");
}

#[tokio::test]
async fn a_folder_granted_for_writing_can_be_used() {
    let root = machine();
    let mut guest = Guest::new(&both(&root));
    let folder = guest.folder("/write");
    guest.write(folder, "note.txt", "noted").await.unwrap();
    assert_eq!(guest.read(folder, "note.txt").await.unwrap(), "noted");
    let mut files = guest.files();
    files.rename_at(at(folder), "note.txt".to_owned(), at(folder), "kept.txt".to_owned()).await.unwrap();
    assert_eq!(fs::read_to_string(root.path().join("write/kept.txt")).unwrap(), "noted");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_folder_that_is_replaced_by_a_link_leads_nowhere_else() {
    let root = machine();
    let folders = both(&root);
    fs::rename(root.path().join("read"), root.path().join("moved")).unwrap();
    symlink("outside", root.path().join("read")).unwrap();
    let mut guest = Guest::new(&folders);
    let folder = guest.folder("/read");
    assert_eq!(guest.read(folder, "list.txt").await.unwrap(), "listed");
    assert!(guest.read(folder, "secret.txt").await.is_err());
}

#[test]
fn folders_that_cannot_be_granted_are_named() {
    let root = machine();
    let place = |name: &str| root.path().join(name);
    symlink(place("plugins"), place("alias")).unwrap();
    fs::create_dir(place("plugins/inner")).unwrap();
    let (plugins, data) = (place("plugins"), place("data/sessions"));
    let protected = [
        Protected { what: "the plugins folder", path: &plugins },
        Protected { what: "the data folder", path: &data },
    ];
    for (host, problem) in [
        (place("missing"), "there is no such folder; make it, or correct the path"),
        (place("read/list.txt"), "it is not a folder; grant the folder that holds the file"),
        (PathBuf::from("/"), "the whole file system is not granted; name a folder"),
        (place("read/../../../../../../../.."), "the whole file system is not granted; name a folder"),
        (place("plugins"), "this is the plugins folder, which no plugin may have"),
        (place("alias"), "this is the plugins folder, which no plugin may have"),
        (
            place("read/.."),
            "it holds the plugins folder, which no plugin may have; name a folder further down",
        ),
        (
            place("plugins/inner"),
            "it lies in the plugins folder, which no plugin may have; name another folder",
        ),
    ] {
        let fine = place("read");
        let grants =
            [&fine, &host].map(|host| FolderGrant { host: host.as_path(), guest: "/x", writable: true });
        let error = Folders::open(grants, &protected).unwrap_err().to_string();
        assert_eq!(error, format!("files[1].host: {}: {problem}", host.display()));
    }
    // A protected place that does not exist yet counts as well.
    fs::create_dir(place("data")).unwrap();
    let host = place("data");
    let grant = FolderGrant { host: &host, guest: "/x", writable: false };
    let error = Folders::open([grant], &protected).unwrap_err().to_string();
    assert!(
        error.ends_with("it holds the data folder, which no plugin may have; name a folder further down")
    );
}
