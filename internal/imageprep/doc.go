// Package imageprep turns encoded pictures into the input of a vision model,
// as a preprocessor_config.json of the Hugging Face tools says: decode, resize,
// center crop, rescale, normalize.
//
// Resizing has the results of PIL to the last bit: separable filters that
// widen when a picture shrinks (antialiasing), in fixed-point numbers, rounded
// to bytes between the two passes, of which that along rows is the first. PIL
// from version 13 on does the other first where the height shrinks much more;
// its levels differ by one there. Only what a crop keeps is computed, so a
// picture of odd proportions needs no more memory than another.
//
// Formats are PNG, JPEG, GIF (the first frame) and WebP (no animations). An
// alpha channel is dropped, not blended, and an EXIF orientation is ignored:
// both as the reference does. Of 16-bit channels the high byte counts. Chroma
// planes of JPEG and WebP are enlarged with the triangle filter that the
// common C decoders use; decoders may differ by one or two levels all the same.
//
// Files are foreign: the size that a header claims is checked before anything
// is decoded.
package imageprep
