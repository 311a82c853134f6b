//! Answers questions about a cache directory with arrow-rs: see ../many.py.

use std::collections::HashMap;
use std::error::Error;
use std::fs::{self, File};
use std::path::Path;

use arrow_array::types::{Float16Type, Float32Type, Int64Type, Int8Type};
use arrow_array::{cast::AsArray, Array, RecordBatch};
use arrow_ipc::reader::FileReader;
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn batches(root: &Path, files: &Value) -> Result<Vec<RecordBatch>> {
    let mut out = Vec::new();
    for f in files.as_array().ok_or("no files")? {
        let path = root.join(f["file"].as_str().ok_or("no file")?);
        let mut rows = 0;
        for batch in FileReader::try_new(File::open(path)?, None)? {
            let batch = batch?;
            rows += batch.num_rows() as u64;
            out.push(batch);
        }
        if Some(rows) != f["rows"].as_u64() {
            return Err(format!("{} has {rows} rows", f["file"]).into());
        }
    }
    Ok(out)
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a dyn Array> {
    Ok(batch.column_by_name(name).ok_or_else(|| format!("no column {name}"))?.as_ref())
}

/// An encoder's embeddings as float32, in positions' order, and where each id stands.
struct Embeddings {
    vectors: Vec<Vec<f32>>,
    by_id: HashMap<Vec<u8>, usize>,
}

fn embeddings(root: &Path, encoder: &Value) -> Result<Embeddings> {
    let mut e = Embeddings { vectors: Vec::new(), by_id: HashMap::new() };
    for batch in batches(root, &encoder["shards"])? {
        let ids = column(&batch, "id")?.as_fixed_size_binary();
        let lists = column(&batch, "embedding")?.as_fixed_size_list();
        for i in 0..batch.num_rows() {
            let list = lists.value(i);
            let vector = match encoder["dtype"].as_str() {
                Some("float32") => list.as_primitive::<Float32Type>().values().to_vec(),
                Some("float16") => list.as_primitive::<Float16Type>().values().iter().map(|v| v.to_f32()).collect(),
                Some("int8") => {
                    let scale = column(&batch, "scale")?.as_primitive::<Float32Type>().value(i);
                    list.as_primitive::<Int8Type>().values().iter().map(|&v| f32::from(v) * scale).collect()
                }
                other => return Err(format!("dtype {other:?}").into()),
            };
            e.by_id.entry(ids.value(i).to_vec()).or_insert(e.vectors.len());
            e.vectors.push(vector);
        }
    }
    Ok(e)
}

fn hex(v: &[f32]) -> String {
    v.iter().flat_map(|x| x.to_le_bytes()).map(|b| format!("{b:02x}")).collect()
}

/// The last one, since the splits of a name come in order of commit.
fn find<'a>(list: &'a Value, key: &str, want: &str) -> Result<&'a Value> {
    let found = list.as_array().and_then(|l| l.iter().rfind(|v| v[key] == want));
    Ok(found.ok_or_else(|| format!("no {key} {want}"))?)
}

fn main() -> Result<()> {
    let root = std::env::args().nth(1).ok_or("usage: reader CACHE QUESTIONS")?;
    let root = Path::new(&root);
    let questions: Value = serde_json::from_slice(&fs::read(std::env::args().nth(2).ok_or("no questions")?)?)?;
    let mut manifests: Vec<_> = fs::read_dir(root.join("manifests"))?.map(|f| f.map(|f| f.path())).collect::<std::result::Result<_, _>>()?;
    manifests.sort();
    let manifest: Value = serde_json::from_slice(&fs::read(manifests.last().ok_or("no manifest")?)?)?;

    let mut splits = HashMap::new();
    let mut stored = HashMap::new();
    for q in questions.as_array().ok_or("questions are no list")? {
        let text = |key: &str| q[key].as_str().unwrap_or_default().to_string();
        let split = find(&manifest["splits"], "name", &text("split"))?;
        let encoder = find(&split["encoders"], "name", &text("encoder"))?;
        let folder = encoder["folder"].as_str().ok_or("not cached")?.to_string();
        if !splits.contains_key(&text("split")) {
            splits.insert(text("split"), batches(root, &split["files"])?);
        }
        if !stored.contains_key(&folder) {
            stored.insert(folder.clone(), embeddings(root, find(&manifest["encoders"], "folder", &folder)?)?);
        }
        let e = &stored[&folder];
        let mut row = q["row"].as_u64().ok_or("no row")? as usize;
        for batch in &splits[&text("split")] {
            if row >= batch.num_rows() {
                row -= batch.num_rows();
                continue;
            }
            let prefix = format!("{}{}", text("encoder"), text("side"));
            let pos = column(batch, &format!("{prefix}_pos"))?.as_primitive::<Int64Type>().value(row);
            let id = column(batch, &format!("{prefix}_id"))?.as_fixed_size_binary().value(row);
            println!("{} {}", hex(&e.vectors[pos as usize]), hex(&e.vectors[e.by_id[id]]));
            break;
        }
    }
    Ok(())
}
