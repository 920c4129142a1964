use super::*;

fn refusal(text: &str) -> String {
    format!("{:#}", Scenario::parse(text).expect_err("the scenario is refused"))
}

#[test]
fn all_that_is_wrong_is_named_at_once() {
    let said = refusal(
        "gpus_per_node = 4\n[sensor]\ngain = 1.5\n\
         [[job]]\nname = \"j\"\nnode_count = 2\n[[job.phase]]\nkind = \"compute\"\nseconds = 1.0\n\
         [[fault]]\nkind = \"thermal\"\nnode = 0\ngpu = 9\nstart = 0.0\ndepth = 1.0\n\
         [[fault]]\nkind = \"xid\"\nnode = 0\ngpu = 1\nstart = 0.0\ndepth = 0.2\n\
         [[fault]]\nkind = \"cpu\"\nnode = 0\nstart = 5.0\nend = 4.0\nvalue = 3.0\nmemory_mhz = 1\n\
         [[fault]]\nkind = \"unloaded\"\nnode = 0\ngpu = 1\nstart = 5.0\n\
         [[fault]]\nkind = \"xid\"\nnode = 0\nstart = 5.0\ndriver_version = \"1\"\n",
    );
    for what in [
        "sensor.gain = 1.5",
        "holds nodes 0 to below 2",
        "phase 0: watts is missing",
        "on a GPU that does not exist",
        "depth = 1",
        "Xid does not slow compute",
        "value = 3",
        "memory_mhz belongs to hbm",
        "ends before it starts",
        "a driver is unloaded for all GPUs of the node",
        "driver_version belongs to unloaded",
    ] {
        assert!(said.contains(what), "{what:?} is not in: {said}");
    }
}

#[test]
fn rare_phases_must_repeat_together_soon_enough() {
    let job = |rare: &str| {
        format!(
            "[[job]]\nname = \"j\"\nnode_count = 1\n[[job.phase]]\nkind = \"compute\"\nseconds = 2.0\nwatts = 500.0\n\
             [[job.phase]]\nkind = \"checkpoint\"\nseconds = 5.0\n{rare}"
        )
    };
    let steps = |text: &str| Scenario::parse(text).unwrap().jobs[0].cycle_steps();
    assert_eq!(steps(&job("every_steps = 50")), 50);
    assert_eq!(steps(&job("every_seconds = 61.0")), 31);
    let two = "every_steps = 6\n[[job.phase]]\nkind = \"idle\"\nseconds = 1.0\nevery_steps = 4";
    assert_eq!(steps(&job(two)), 12);
    assert!(refusal(&job("every_steps = 5000")).contains("after 5000 steps"));
    assert!(refusal(&job("every_steps = 0")).contains("above 0"));
    assert!(refusal(&job("every_steps = 2\nevery_seconds = 9.0")).contains("not both"));
}

#[test]
fn the_repositorys_scenarios_are_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files: Vec<_> =
        std::fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("a file").path()).collect();
    assert!(!files.is_empty());
    files.iter().for_each(|file| drop(Scenario::load(file).unwrap_or_else(|error| panic!("{error:#}"))));
}

/// The keys that a part of a scenario takes, as the parser itself tells them.
fn keys(part: &str) -> Vec<String> {
    let said =
        toml::from_str::<Scenario>(&format!("{part}\nno_such_key = 1")).expect_err("an unknown key is refused").to_string();
    let list = said.split_once("expected one of ").map(|(_, list)| list.to_owned()).unwrap_or_default();
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_readme_tells_every_key_and_every_fault() {
    let readme = include_str!("../../README.md");
    let parts = ["", "[cost]", "[sensor]", "[variety]", "[waiting]", "[[gpu]]", "[[job]]", "[[job]]\n[[job.phase]]", "[[fault]]"];
    let mut count = 0;
    for part in parts {
        for key in keys(part) {
            assert!(readme.contains(&format!("`{key}`")), "README.md lacks {key} of {part:?}");
            count += 1;
        }
    }
    assert!(count > 50, "{count} keys were checked");
    let kinds =
        toml::from_str::<Scenario>("[[fault]]\nkind = \"no_such_kind\"").expect_err("an unknown kind is refused").to_string();
    let kinds: Vec<&str> = kinds.split('`').skip(3).step_by(2).collect();
    assert!(kinds.len() >= 13, "{kinds:?}");
    for kind in kinds {
        assert!(readme.contains(&format!("`{kind}`")), "README.md lacks the fault {kind}");
    }
}
