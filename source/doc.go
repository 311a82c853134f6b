// Package source reads datasets, and replays what was made of them.
//
// A [Source] is an ordered list of rows of one Go type, with an identity that
// changes whenever the rows can. There are files of JSON lines ([JSONL]) and
// of comma-separated values ([CSV]), compressed or not, files of columns
// ([Parquet], [Arrow]), of which only the columns are read that are asked for,
// folders of images ([Images]), rows in memory ([Slice]), Go iterators ([Seq])
// and the documentation of Go source trees ([Godoc]); [Limit] and [Concat] derive sources from others. The type is a
// struct of the caller, or [Fields] where columns are known by name only.
//
//	type Row struct {
//		Question string `json:"question"`
//		Answer   string `json:"answer"`
//	}
//
//	guard, err := source.NewGuard(source.Quarantine, "bad-rows.jsonl")
//	if err != nil {
//		return err
//	}
//	defer guard.Close()
//	for row, err := range source.Guarded(source.JSONL[Row]("faq-*.jsonl.gz").Rows(ctx), guard) {
//		if err != nil {
//			return err // names file and line
//		}
//		fmt.Println(row.Pos, row.Value.Question)
//	}
//
// Every call of Rows starts a new pass over the same rows in the same order. A
// row that cannot be read comes as a [*RowError] and the pass goes on; what is
// done about it is for a [Guard] to decide. All other errors end the pass.
// Memory is bounded by the longest line, or by a page or record batch of each
// column.
//
// The identity of files is made of their bytes and of the options that change
// rows, never of names, folders or times. Digests of files are remembered in
// the user's cache folder, so that a large dataset is not read to learn that
// it is the one of yesterday. What is remembered counts only if size, inode,
// device and both times of the file are the same, and if the file was at rest
// for longer than a file system's clock is coarse (2 s) when it was hashed.
// Where times can lie, [CheckSources] has the bytes read.
//
// [Replay] is the other way round: it gives the epochs of a filled [Table] as
// Arrow record batches, in an order ([Permutation]) that is computed from seed
// and epoch, index by index, so that any position of any epoch is found at
// once. An [Order] says in which sequence rows come, and which: all ([Shuffled],
// [Sequential]), some ([Selected]), more often the heavier ([Weighted]), or
// those of several parts ([Mixed]). A [Sampler] puts them in batches: as they
// come ([Batches]), without equal objects in one ([Distinct]), or so many of
// each of so many groups ([GroupBalanced]).
package source
