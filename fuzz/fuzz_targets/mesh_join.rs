#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| litefs_py::fuzzing::run("mesh_join", bytes));
