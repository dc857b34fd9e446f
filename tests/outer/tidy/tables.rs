//! What the house rules allow: who imports whom, and what may be long or in a circle, and why. No check is here.

/// Which modules each file imports, no more and no fewer: `hub` is src/hub, for dflock(1) also its own `failure`, and
/// `super::session` is a file in the same folder. What a file has of its parent or of its children needs no row.
pub const IMPORTS: &[(&str, &str)] = &[
    ("base/buffer", ""),
    ("base/date", ""),
    ("base/grid", "super::slab"),
    ("base/histogram", ""),
    ("base/list", "super::slab"),
    ("base/mod", ""),
    ("base/name", ""),
    ("base/slab", ""),
    ("base/table", ""),
    ("base/wheel", "command super::slab"),
    ("bin/dflock/bench/answer", "command"),
    ("bin/dflock/bench/figures", "command"),
    ("bin/dflock/bench/http", "command super::answer wire"),
    ("bin/dflock/bench/lane", "command super::plan"),
    (
        "bin/dflock/bench/load",
        "command super::answer super::figures super::lane super::peer super::plan super::proto sys",
    ),
    ("bin/dflock/bench/mod", "failure options print sys"),
    (
        "bin/dflock/bench/options",
        "command options super::plan super::proto values",
    ),
    (
        "bin/dflock/bench/page",
        "super::figures super::options super::report",
    ),
    ("bin/dflock/bench/peer", ""),
    ("bin/dflock/bench/plan", "command"),
    (
        "bin/dflock/bench/proto",
        "client command failure super::answer super::http sys wire",
    ),
    (
        "bin/dflock/bench/report",
        "base command super::figures super::options super::proto",
    ),
    ("bin/dflock/bench/watch", "command"),
    ("bin/dflock/failure", "client names sys"),
    ("bin/dflock/guard/life", "command super::tree sys"),
    ("bin/dflock/guard/mod", "command sys"),
    ("bin/dflock/guard/tree", "command sys"),
    ("bin/dflock/main", "sys"),
    ("bin/dflock/names", ""),
    ("bin/dflock/options", "client command values wire"),
    ("bin/dflock/print", "client failure options sys wire"),
    (
        "bin/dflock/run/acquire",
        "client command failure options super::find super::keeper super::release super::world sys wire",
    ),
    (
        "bin/dflock/run/find",
        "client command failure options super::news super::release super::world sys wire",
    ),
    (
        "bin/dflock/run/hold",
        "failure options print super::acquire super::world sys",
    ),
    (
        "bin/dflock/run/keeper",
        "client command failure print super::find super::news super::release super::times super::world sys wire",
    ),
    ("bin/dflock/run/mod", "failure options"),
    ("bin/dflock/run/news", "command failure sys"),
    (
        "bin/dflock/run/release",
        "client command failure super::world sys wire",
    ),
    (
        "bin/dflock/run/supervise",
        "command failure guard options super::keeper super::times super::world sys witness",
    ),
    (
        "bin/dflock/run/take",
        "command failure options print super::acquire super::keeper super::world sys",
    ),
    ("bin/dflock/run/times", "client command guard options"),
    ("bin/dflock/run/world", "command failure sys"),
    (
        "bin/dflock/steps/acquire",
        "client command failure options run super::talk sys",
    ),
    (
        "bin/dflock/steps/force",
        "client command failure options print super::talk",
    ),
    (
        "bin/dflock/steps/listen",
        "client failure options print super::talk sys wire",
    ),
    (
        "bin/dflock/steps/listing",
        "failure names options print super::talk",
    ),
    (
        "bin/dflock/steps/mod",
        "client command failure options print wire",
    ),
    (
        "bin/dflock/steps/stat",
        "client command failure options print super::listing super::talk",
    ),
    (
        "bin/dflock/steps/talk",
        "client command failure options sys",
    ),
    ("bin/dflock/values", "client command config"),
    ("bin/dflock/witness", "command sys"),
    ("client/admin", "command sys wire"),
    ("client/connect", "super::stream sys wire"),
    ("client/error", "command"),
    (
        "client/keeper",
        "command super::connect super::lease super::link sys wire",
    ),
    ("client/lease", "command"),
    ("client/lease/tests", ""),
    ("client/link", "sys wire"),
    ("client/lock", "super::keeper sys"),
    ("client/mod", "command sys wire"),
    ("client/owner", "command sys wire"),
    ("client/shard", ""),
    ("client/signals", "command sys wire"),
    ("client/stream", "command super::link sys"),
    ("command", ""),
    ("config/mod", "command"),
    ("config/options", "super::secret super::values"),
    ("config/secret", "wire"),
    (
        "config/settings",
        "super::options super::secret super::values",
    ),
    ("config/tests", "command"),
    ("config/tests/http", ""),
    ("config/tests/lean", ""),
    ("config/values", "command"),
    ("hub/access", "command super::session"),
    ("hub/agenda", ""),
    ("hub/answers", "base command wire"),
    ("hub/budget", "base"),
    ("hub/check", "super::session super::stats wire"),
    ("hub/counts", "base command locks super::answers wire"),
    (
        "hub/execute",
        "command super::agenda super::listing super::refusals super::session super::show super::stats wire",
    ),
    ("hub/life", "command super::refusals super::session wire"),
    (
        "hub/listing",
        "command super::agenda super::show super::stats super::status super::view",
    ),
    ("hub/metrics", "base command wire"),
    ("hub/mod", "base command locks signals wire"),
    ("hub/outlet", "base super::budget"),
    (
        "hub/post",
        "base command signals super::agenda super::session wire",
    ),
    ("hub/refusals", "command"),
    ("hub/rest/answer", "command hub wire"),
    ("hub/rest/locks", "command hub wire"),
    (
        "hub/rest/mod",
        "super::agenda super::listing super::refusals super::session super::status wire",
    ),
    (
        "hub/session",
        "base command super::agenda super::listing super::outlet wire",
    ),
    ("hub/show", "command super::agenda super::view wire"),
    (
        "hub/stats",
        "command signals super::agenda super::view wire",
    ),
    ("hub/status", "command super::agenda super::view wire"),
    ("hub/view", "command locks signals super::agenda"),
    ("lib", ""),
    (
        "locks/acquire",
        "base command super::key super::secret super::ticket",
    ),
    (
        "locks/attempt",
        "base command super::acquire super::crowd super::event super::owner super::secret super::ticket",
    ),
    (
        "locks/breaking",
        "command super::crowd super::event super::key super::slices",
    ),
    ("locks/check", "base super::crowd"),
    (
        "locks/claim",
        "command super::acquire super::event super::ticket",
    ),
    ("locks/counts", "base command"),
    ("locks/crowd", "base command"),
    ("locks/event", "command super::ticket"),
    (
        "locks/grant",
        "base command super::crowd super::event super::ticket",
    ),
    ("locks/idle", "base command super::key"),
    ("locks/key", "base command super::ticket"),
    (
        "locks/knot",
        "command super::key super::owner super::ticket",
    ),
    ("locks/mod", "base command"),
    ("locks/owner", "base command super::ticket"),
    (
        "locks/phases",
        "base command super::acquire super::event super::ticket",
    ),
    ("locks/secret", "command"),
    ("locks/slices", "base command super::event super::ticket"),
    ("locks/ticket", "base command"),
    ("locks/view", "base command super::ticket"),
    ("log", "base command sys"),
    ("main", "config log server sys"),
    (
        "server/doors",
        "command config hub log super::limits super::refusals super::socket sys wire",
    ),
    ("server/limits", "base"),
    ("server/mod", "command config hub locks log sys wire"),
    ("server/refusals", "command config hub log"),
    ("server/reload", "config hub log"),
    ("server/socket", "base command hub"),
    ("server/trail", "command hub locks log"),
    ("server/turns", "command"),
    ("signals/check", "base"),
    ("signals/emission", "base command"),
    ("signals/mod", "base command"),
    ("signals/patterns", "base"),
    ("sys/figures", ""),
    ("sys/handover", ""),
    ("sys/mod", "command"),
    ("sys/output", ""),
    ("sys/process", "command"),
    ("wire/ask", "command super::text"),
    ("wire/distlockd", "command super::text"),
    ("wire/http/answer", "base command super::route wire"),
    ("wire/http/body", "super::head wire"),
    ("wire/http/guard", ""),
    ("wire/http/head", "wire"),
    ("wire/http/lock", "command super::answer wire"),
    ("wire/http/mod", "command"),
    (
        "wire/http/parse",
        "super::body super::head super::read super::route",
    ),
    ("wire/http/problem", ""),
    ("wire/http/read", "command super::route wire"),
    ("wire/http/route", "command wire"),
    ("wire/http/stored", ""),
    ("wire/http/tests", "command super::body super::head"),
    ("wire/http/tests/answers", "command wire"),
    ("wire/http/tests/bodies", "command wire"),
    ("wire/http/tests/requests", ""),
    ("wire/json", "command"),
    ("wire/metrics", "command"),
    ("wire/metrics/tests", ""),
    ("wire/mod", "command"),
    ("wire/text", "command"),
    ("wire/text/tests", ""),
];

/// Siblings of which the first still imports the second though that closes a circle, in this folder, and why.
pub const CIRCLES: &[(&str, &str, &str, &str)] = &[];

/// How many lines a file and a function may have without a reason.
pub const FILE_MAX: usize = 600;
pub const FUNCTION_MAX: usize = 60;

/// Files, and functions in them, that are longer, and why. Whoever can cut one removes its row.
pub const LONG: &[(&str, &str, &str)] = &[
    (
        "src/base/wheel",
        "against_a_sorted_list",
        "a model and what it is compared with, step by step",
    ),
    (
        "src/config/tests",
        "each_variable_reaches_its_setting",
        "a table with one row per variable",
    ),
    (
        "src/wire/ask",
        "command",
        "a match with an arm for each command",
    ),
    (
        "tests/inner/dialogue/framing",
        "malformed_frames_are_errors_and_leave_the_connection_open_and_in_step",
        "a table with one row per frame",
    ),
    (
        "src/wire/metrics/tests",
        "each_number_is_written_where_it_belongs",
        "a table with one row per series",
    ),
    ("src/locks/mod", "apply", "a match with one arm per command"),
    (
        "tests/shell/dflock",
        "",
        "the whole of holding a lock in a shell",
    ),
    (
        "tests/inner/dialogue/framing",
        "a_wrong_number_of_arguments_is_an_error_and_executes_nothing",
        "a table with one row per frame",
    ),
    (
        "tests/inner/dialogue/stats",
        "any_key_leaves_stats_one_line_of_valid_json",
        "a small reader of JSON is in it",
    ),
    (
        "tests/shell/examples",
        "the_scripts_of_the_clients_page_get_their_lock_and_give_it_back",
        "one script of the page after the other",
    ),
    (
        "tests/inner/hub_sim/words",
        "ask",
        "a match with one arm per command",
    ),
    (
        "tests/inner/judges/locks/acts",
        "command",
        "a match with one arm per command",
    ),
    (
        "tests/inner/judges/locks/mod",
        "",
        "the one model of the contract of locks",
    ),
    (
        "tests/outer/process",
        "",
        "every promise that only a real process can keep",
    ),
];

/// Files and folders of the outer ring, which may read the clock and open files.
pub const OUTER: [&str; 8] = [
    "bin", "main", "lib", "server", "client", "sys", "config", "log",
];
