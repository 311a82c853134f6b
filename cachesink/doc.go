// Package cachesink is the cache: it stores the embeddings of frozen encoders
// with the rows that they belong to, and replays them. [Open] opens a place,
// [Cache.Fill] writes to it, [Cache.Read] reads a split back, [Cache.Verify]
// checks every byte, [Cache.Lookup] finds what a key names, [Diff] compares two
// caches. What follows specifies the directory so that another
// program can read and write it: format versions 1 and 2. Version 2 has, beyond
// version 1, the dtypes float16 and int8, compressed shards and record batches
// of chosen sizes; what does not use them is the same in both.
//
// # Layout
//
//	manifests/<generation>.json                 what counts; 10 digits, from 0000000001
//	splits/<split>-<fp12>/<nnnnn>.arrow         a row per sample, nnnnn = 00000, 00001, ...
//	inputs/<split>-<fp12>/<nnnnn>.arrow         a row per sample, only where an encoder is not cached
//	encoders/<name>-<fp12>/<nnnnn>-<id8>.arrow  a shard: a row per object
//	*.arrow.sum                                 checksums of the file beside it
//	encoders/<name>-<fp12>/<id>-<nonce>.partial finished batches of a shard in the making
//	leases/                                     which fills run, and at which shards
//	MANIFEST.json                               hint: a copy of a recent manifest, for people
//	sources/<key>.json                          hint: which source gave which split
//	tmp/                                        files without a name yet
//
// Only the manifest of the highest generation and the files that it names
// count. Everything else is a hint, an orphan or in the making, and may be
// missing, stale or cut short. A place that is no folder (see [OpenStorage]) has
// the same files under the same names. The names of splits and encoders match
// [a-z][a-z0-9_]{0,127}. Strings in quotes below are written without them;
// \n is a line feed, and hex is in small letters.
//
// # Manifest
//
// A manifest is the JSON of [Manifest], indented by one space a level as
// encoding/json does it, and a line feed. Fields:
//
//	format      the lowest version that has all that is stored: 1 or 2. A reader refuses a
//	            higher one than it knows.
//	generation  the number in the file's name
//	encoders    sorted by folder; each with name, fingerprint (64 hex digits), folder, dim,
//	            dtype ("float32", "float16" or "int8"), spec (the declared fields behind the
//	            fingerprint), shards
//	splits      sorted by name, then in order of the last fill; each with name, fingerprint, kind
//	            ("group" or "pair"), folder, rows, encoders (name, fingerprint, folder of the
//	            embeddings or "" where it is not cached, input as declared, objects), files,
//	            and inputs where an encoder is not cached
//	digest      hex SHA-256 of the document with this field empty, without the last line feed
//
// A shard and a file have file (its name), rows, bytes and sum; a shard also
// has its id and, unless it is "float32", its storage (see Storage). An encoder
// is known by its folder, so that one may stand there in several dtypes, a
// split by name and fingerprint; neither comes twice. In every format version the digest comes
// last, as `"digest": "` + 64 digits + `"\n}\n`, and format keeps its
// meaning, so that damage and a newer version are told apart.
//
// # Commit
//
// Files are written without a name, synced, and then named in one step.
// First those that a manifest names, then the manifest, under the next
// generation and only if that name is free (link(2); in an object store a put on
// that condition). Who finds it taken
// reads the manifest that is there, adds its own splits, encoders and shards
// to that, and tries the number after. A commit removes nothing. Where there
// are no hard links, whoever creates <generation>.json.claim may rename; a
// claim without its manifest is a commit that may still come, and is waited
// for. Only collections and repairs take something out of a manifest. A manifest gets its name when it is complete: one that does not parse
// is damage, and an older one is not used in its place.
//
// # Checksums
//
// For a file X of n bytes, X.sum has one CRC32C (Castagnoli) for each block of
// 64 KiB, the last block being what is left, each 4 bytes, little endian. The
// manifest's sum is the hex SHA-256 of X.sum. A reader checks that sum, the
// size, and each block before it uses a byte of the block.
//
// # Arrow files
//
// All *.arrow files are Arrow IPC files, uncompressed but for shards whose
// storage says otherwise. The columns, with the schema metadata, every value a
// string:
//
//	shard: permafrost.format, permafrost.encoder, permafrost.fingerprint, permafrost.spec (JSON),
//	       permafrost.dtype, permafrost.batch_size, permafrost.storage (unless it is "float32")
//	  id         fixed_size_binary[32]
//	  embedding  fixed_size_list<float32>[dim], no nulls
//	             dtype float16: fixed_size_list<halffloat>[dim]
//	             dtype int8:    fixed_size_list<int8>[dim]
//	  scale      float32, no nulls; only in int8
//
//	split: permafrost.format, permafrost.split, permafrost.kind
//	  row        int64, from 0, without gaps over the files in order
//	  label      utf8 or int64 (group)   |   score float32, subgroup utf8 or int64 (pair)
//	  ...        kept columns: int64, float32, float64, bool, utf8 or binary; the only ones with nulls
//	  E_key      utf8: what people call the object
//	  E_id       fixed_size_binary[32]: the object's id under encoder E
//	  E_pos      int64: its position among E's embeddings; only where E is cached
//
//	inputs: as split
//	  row        int64
//	  E_input    binary: the canonical bytes of what E reads (encode.AppendInput)
//
// For pairs E_key becomes E_a_key and E_b_key, and so on. Encoders come in the
// order of their names. A position counts the rows of the encoder's shards in
// the manifest's order: position p is row p - rows of the shards before. The
// join by position and the join by id give the same vectors; two fills at
// once may each store an object, so an id may stand in two shards, with equal
// vectors. No reader needs the order of files for a join by id.
//
// permafrost.format is 2 in shards with permafrost.storage, else 1. Record
// batches of a shard have max(1, min(2^24/w, 65536)) rows (integer division),
// where w is 4*dim+32 in float32, 2*dim+32 in float16 and dim+36 in int8, or
// max(1, min(rows, 2^26/w)) where the storage names rows; those of splits and
// inputs have 8,192, the last of a file less. A split file has 1,048,576 rows,
// the last less.
//
// # Storage
//
// The storage of a shard says all of how its values are written:
//
//	dtype ["+" codec "." output] ["/" rows] ["<" converted]
//
// codec is lz4 or zstd: the buffers of its record batches are LZ4 frames or
// Zstandard frames, as Arrow IPC defines it, and checksums cover the compressed
// bytes. output is a number, 1 until the library that compresses gives other
// bytes. rows are those of a record batch, without leading zeros. converted is
// explained below. Of these only the dtype is part of the folder's name, so
// that the shards of one folder may be compressed and cut in several ways.
//
// A float16 value is the nearest half-precision number, ties to even; a value
// that would become infinite, of 65520 or more, cannot be stored. A row x in
// int8 has, in float32 arithmetic,
//
//	scale     = max(|x|)/127
//	embedding = x/scale, rounded to the nearest whole number, ties to even
//
// (at most 127 in magnitude, which a scale below 2^-126 may have to enforce),
// and is 0, with scale 0, where max(|x|)/127 is 0; values of 2^127 or more
// cannot be stored. The value that is replayed is embedding*scale in float32.
// In Python, with pyarrow and numpy:
//
//	n = table.num_rows
//	q = table["embedding"].combine_chunks().flatten().to_numpy().reshape(n, -1)
//	x = q.astype("float32") * table["scale"].to_numpy()[:, None]
//
// pyarrow and Polars read all of these (tools/readers/storage.py); DuckDB 2.0
// refuses float16.
//
// What an encoder has in float32 is not encoded again to store it in float16
// or int8, but converted; nothing else is, since to round twice is not what to
// round once. A conversion is what encoding would give where an embedding does
// not depend on its batch, and then a converted shard has the id and the bytes
// of an encoded one. For other encoders converted is the hex SHA-256 of one
// byte for each object of the shard, 1 if it was converted and 0 if it was
// encoded, for a shard with at least one of the former. Object batches are
// formed of what is encoded.
//
// # Collection and repair
//
// A shard that a collection has put together of others (compaction) has their
// values as they were stored. There, whatever the encoder, converted is the
// hex SHA-256 of a line for each object of the shard in order: the id of the
// shard that it was in, a space, its row there (decimal), "\n".
//
// A collection first takes from the manifest the splits that newer ones of
// their name supersede, and the encoders that no split uses then, in one
// commit; what compaction changes, shards and the splits that count through
// them, is part of it. Then it deletes what no manifest names that was the
// newest at some time within the grace: manifests first, and no file that has
// changed since it was listed. Files that no manifest names must be older than
// the grace, and 10 minutes in any case, and of no running fill.
//
// While it deletes there is a file leases/gc-<random>, which says whose
// process does. It is made before the commit, and a collection that deletes
// more than manifests always commits. Who commits looks for such files after
// reading the manifest that it builds on, waits until they are gone (at most 5
// seconds), and then makes sure that the shards it is about to name are there.
// A fill writes a finished shard that it takes up again, so that it is changed.
//
// A reader that finds a file gone reads the newest manifest. If that is
// another generation, the rows are where it says, or were removed; else it is
// damage. A repair replaces a damaged file by one of the same bytes under its
// name; if an encoder gives other bytes than it did, the entry of the shard
// changes with it, in a new generation.
//
// Of a damaged shard a repair takes the embeddings whose blocks hold, and
// encodes those of the other blocks: where they do not depend on their batch
// they alone, else all of the object batches that have one. In a compressed
// shard blocks are not those of rows, and whole record batches are lost, or all
// of it with its footer. Ids are had from blocks that hold and from the splits,
// and the shard's id proves them. What comes out is the file only if the
// manifest's sum says so; else all objects are encoded.
//
// # Identities
//
// The id of an object is package encode's: SHA-256 over a version tag and the
// canonical bytes that the encoder reads. The id of a shard is the hex
// SHA-256 of
//
//	"permafrost.shard.v1\n" fingerprint "\n" storage "\n" batch_size "\n" (decimal)
//	the number of objects (8 bytes, little endian), the objects' ids in order
//
// and id8 its first 8 digits. The same id means the same bytes: object
// batches are formed inside one shard, and the encoder is deterministic. A
// shard that lies there under its planned name, with checksums that hold and
// the planned ids in order, is taken up instead of being encoded.
//
// fp12 are the first 12 hex digits of SHA-256, for an encoder's folder of
//
//	"permafrost.folder.v1\n" fingerprint "\n" dtype
//
// and for the folders of a split's files and inputs of
//
//	"permafrost.splitfolder.v1\n" the split's fingerprint "\n"
//	for each file, then each file of inputs: the sum of the manifest "\n"
//
// so that one name never stands for two contents. The fingerprint of a split
// is the hex SHA-256 of (with %q as package fmt quotes)
//
//	"permafrost.split.v1\n" %q of the name " " %q of the kind "\n"
//	for each column from row to the last kept one: %q of its name " " its Arrow type "\n"
//	for each encoder, for each side: %q of the name " " %q of the side ("", "a", "b") " "
//	  the encoder's fingerprint, then, where it is cached in another dtype than float32, "/"
//	  dtype; " " true or false (cached) " " %q of the input as declared "\n"
//	for each row, for each of these columns, then for each encoder and side its key and id:
//	  0 for a null, else 1 and the value: numbers little endian in their width, a bool one
//	  byte, texts and binaries their length in 4 bytes and their bytes, ids their 32 bytes
//
// where types are written int64, float32, float64, bool, utf8, binary. Positions
// and inputs are not in it: they follow from ids and shards.
//
// A source note holds the split and fingerprint that a source gave under a
// key, which hashes all that decides its rows, and those facts. It counts
// while the manifest has the split.
//
// # Partial shards
//
// A fill keeps each batch that an encoder gives from that moment on, until the
// batch's shard is published, in a partial file of its own: <id> is the shard's
// id, nonce is the fill's. Nobody writes to a file of another, and a file is
// never cut. Whoever encodes the shard later reads all of its partial files,
// each up to the first record that is damaged, and removes them when the shard
// is there. They hold what was encoded, in float32, whatever the dtype of the
// shard; numbers are little endian, and an offset counts from the beginning of
// the file.
//
//	header  "permafrost.part\n"; the version, 1; dim (4 bytes each); the shard's id (32
//	        bytes); 0; the CRC32C of the 60 bytes before (4 bytes each)
//	record  the number of rows; the checksum (4 bytes each); the rows' ids (32 bytes each);
//	        their embeddings (4*dim bytes each)
//
// The checksum of a record is the CRC32C of the header, the record's offset (8
// bytes), the number of rows, the ids and the embeddings, one after the other,
// so that a record counts only in its shard and its place. A record has at
// most max(1, 2^24/(4*dim+32)) rows (integer division). A batch is taken from
// partial files if they have all of its objects, else it is encoded as a whole:
// the embeddings of some encoders depend on the batch. What was written
// survives the process; it is synced after at most 5 seconds.
//
// # Leases
//
// Fills that run at once share the work through leases. They only save double
// work: a fill is right without them, and goes on where they cannot be written.
//
//	leases/<nonce>.json    a fill's session: format (1), owner (machine, pid, started: a process
//	                       as its system tells it), encoders (the folders that it uses)
//	leases/<nonce>.beat    grows by a byte every 10 seconds while the fill runs
//	leases/<name>-<fp12>-<shard id>.<k>
//	                       a claim, created exclusively: the nonce and the name of the shard's
//	                       file to be, a line each; of a shard's claims the highest k counts
//
// A session is dead if its process is of this machine and gone, or if it has
// not grown for 30 seconds by the clock of who watches it. Who finds the
// session of a claim dead makes the claim k+1, and goes on from the partial
// files. A fill that finds a shard claimed by a living session does the others
// first. Claims and session are removed when the fill ends, and by later
// sessions if it was killed. While a session lives, the files of its encoders'
// folders and the temporary ones are to be kept.
//
// # Sample batches, object batches, embedding batches
//
// The stages of a fill speak Arrow record batches. A sample batch
// ([Fill.Index] reads them, encode.Samples makes them) has the schema metadata
// permafrost.split and permafrost.kind, the columns of a split file without
// role up to the kept ones, and then for each encoder and side three columns,
// found by their field metadata permafrost.role ("key", "id", "input"),
// permafrost.encoder and permafrost.side. Rows are numbered from 0 through all
// batches of a split, which come one after the other. An object batch
// ([ObjectSchema]) has id and input, an embedding batch ([EmbeddingSchema]) id
// and embedding, in the same order of rows.
//
// Object batches are cut from a shard's objects in order: 16 times batch_size
// of them, or the first multiple of batch_size whose inputs have 1 MiB. The
// encode stage cuts them into batches for the encoder, by length if that is
// not batch-invariant, so the bytes of a shard follow from its objects. It is
// to be given [Fill.Memo], or nothing is kept of a shard until it is complete.
//
// # Mapped files
//
// Uncompressed shards in a [Dir] are mapped into memory, private and
// read-only, where the system has that: they take no memory of their own, a
// column of consecutive rows in float32 is the pages of the file, and a cache
// may be larger than memory. A block is checked when it is touched first, so
// damage is ErrCorrupt from the Gather that meets it. Which blocks held is
// kept in the user's cache folder (permafrost/verified), by device, inode,
// size, times and the digest of the checksums, so that a later process need
// not check them again; [Tables].VerifyAlways does not look there. A file that
// was changed less than 2 seconds before it was mapped has no such note.
//
// Nobody may write to a file of a cache or cut it. Where it happens all the
// same, a Gather that meets a page which is gone is ErrCorrupt, and so is any
// Gather from 100 ms after a file's size or time of change became others. Who
// reads a lent batch whose file is cut at that moment is ended by the system;
// [Tables].Copy, which reads all into memory first, leaves no such moment.
//
// # Ownership and concurrency
//
// A record batch belongs to the stage that receives it, which releases it;
// what a function is given it borrows. [SplitReader.Gather] returns a batch
// that its caller owns; it may share the memory of the reader and must be
// released before it. A [Cache] is safe for concurrent use, and so are a
// [SplitReader] and a [Table] until their Release; a [Fill] serves one group
// of stages. Any number of processes may read and fill one directory at once.
package cachesink
