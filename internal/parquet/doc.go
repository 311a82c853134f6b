// Package parquet reads Parquet files, one column chunk at a time and one page
// at a time, whatever their bytes are, and writes simple ones: see [Writer].
//
// [Open] reads the footer; a [Node] is a column or a group of columns of its
// schema; a [Column] gives the cells of one leaf in one row group: values with
// their repetition and definition levels, from which rows are put together.
//
//	f, err := parquet.Open(file, size)
//	...
//	for group := range f.Groups() {
//		c := f.Column(group, leaf)
//		for c.Next(&cell) { ... }
//		if err := c.Err(); err != nil { ... }
//	}
//
// All encodings of the format are read but for the one that is deprecated
// (BIT_PACKED levels), and the codecs snappy, gzip, zstd, LZ4_RAW and the older
// LZ4. Encrypted files, brotli and LZO are errors that say so.
//
// # Damaged and hostile files
//
// Any bytes give values or an error: there is no panic, no endless loop without
// progress in the file, and no memory beyond one page of [MaxPage] bytes, and
// one dictionary page, per open column. Lengths and counts are held against
// the bytes that are there before anything is allocated for them; runs are
// decoded value by value; checksums of pages are verified where a file has
// them.
package parquet
