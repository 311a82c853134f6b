// Answers questions about a cache directory with Arrow JS: see ../many.py.
// Arrow JS has no decompressors of its own; --codecs registers two of npm's.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { CompressionType, compressionRegistry, tableFromIPC } from "apache-arrow";
import { decompress as zstd } from "fzstd";
import lz4 from "lz4js";

const [root, questionFile, codecs] = process.argv.slice(2);
if (codecs === "--codecs") {
  compressionRegistry.set(CompressionType.ZSTD, { decode: (data) => zstd(data) });
  compressionRegistry.set(CompressionType.LZ4_FRAME, { decode: (data) => lz4.decompress(data) });
}
const json = (file) => JSON.parse(readFileSync(file, "utf8"));
const hex = (bytes) => Buffer.from(bytes).toString("hex");

const newest = readdirSync(join(root, "manifests")).sort().at(-1);
const manifest = json(join(root, "manifests", newest));

const tables = (files) => files.map((f) => {
  const t = tableFromIPC(new Uint8Array(readFileSync(join(root, f.file))));
  if (t.numRows !== f.rows) throw new Error(`${f.file} has ${t.numRows} rows`);
  return t;
});

// The embeddings of an encoder as float32, in positions' order, and where each id stands.
function embeddings(encoder) {
  const vectors = [];
  const byId = new Map();
  for (const t of tables(encoder.shards)) {
    const ids = t.getChild("id");
    const lists = t.getChild("embedding");
    const scales = t.getChild("scale");
    for (let i = 0; i < t.numRows; i++) {
      const values = Float32Array.from(lists.get(i)); // of float16 too: each is a number
      if (scales) {
        const scale = scales.get(i);
        for (let k = 0; k < values.length; k++) values[k] *= scale;
      }
      const id = hex(ids.get(i));
      if (!byId.has(id)) byId.set(id, vectors.length);
      vectors.push(values);
    }
  }
  return { vectors, byId };
}

const splits = new Map();
const stored = new Map();
const get = (map, key, make) => map.get(key) ?? map.set(key, make()).get(key);
for (const q of json(questionFile)) {
  const split = manifest.splits.findLast((s) => s.name === q.split); // in order of commit
  const folder = split.encoders.find((e) => e.name === q.encoder).folder;
  const e = get(stored, folder, () => embeddings(manifest.encoders.find((x) => x.folder === folder)));
  let row = q.row;
  for (const t of get(splits, q.split, () => tables(split.files))) {
    if (row >= t.numRows) {
      row -= t.numRows;
      continue;
    }
    const column = (role) => t.getChild(`${q.encoder}${q.side}_${role}`).get(row);
    const bits = (v) => hex(new Uint8Array(v.buffer, v.byteOffset, v.byteLength));
    console.log(bits(e.vectors[Number(column("pos"))]), bits(e.vectors[e.byId.get(hex(column("id")))]));
    break;
  }
}
