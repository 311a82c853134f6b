package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// configText writes the config of a dataset.
func configText(data string, d *dataset, cols []column, s sample) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# Made by `pipeline init %s`.", oneLine(data))
	p("#   pipeline plan FILE   shows what would be encoded, and changes nothing")
	p("#   pipeline run FILE    encodes what is new, trains the head and measures it")
	p("# Relative paths are relative to this file. ${VAR:-default} in a value is replaced")
	p("# from the environment; --set a.b=c overrides a value.")
	p("version: 1")
	p("seed: 42                # of the order of samples and the first weights")
	p("")
	p("dataset:")
	p("  splits:")
	for _, name := range slices.Sorted(maps.Keys(d.splits)) {
		p("    %s: %s", name, splitText(name, d))
	}
	if _, ok := d.splits["val"]; !ok {
		p("    # val: {jsonl: val.jsonl}   # a split of this name is measured before and after training")
	}
	for i, line := range columnLines(cols) {
		lead := "  # Columns: "
		if i > 0 {
			lead = "  #          "
		}
		p("%s%s", lead, line)
	}
	if s.Kind == "pair" {
		score := ""
		if s.Score != "" {
			score = ", score: " + scalar(s.Score)
		}
		p("  # Two texts that belong together. Optional: score (1 is alike) and subgroup (a column")
		p("  # whose different values are never alike).")
		p("  pair: {a: %s, b: %s%s}", scalar(s.A), scalar(s.B), score)
	} else if d.images() {
		p("  # An image and its label, the name of its folder: equal labels belong together.")
		p("  group: {object: {image: %s, filename: filename}, label: %s}", scalar(s.A), scalar(s.Label))
	} else {
		p("  # A text and its label: equal labels belong together.")
		p("  group: {object: %s, label: %s}", scalar(s.A), scalar(s.Label))
	}
	if rest := restOf(cols, s); len(rest) > 0 {
		p("  # keep: [%s]   # columns to store beside the embeddings", strings.Join(rest, ", "))
	}
	p("  # on_error: quarantine   # bad rows: fail (default), skip or quarantine (to a file)")
	p("")
	p("encoders:               # several may be named; their embeddings are concatenated")
	if d.images() {
		p("  # The embedded encoder reads texts. It stands in here, with the names of the files,")
		p("  # for one of images: {type: onnx, model: NETWORK, input: image}")
		p("  content_encoder: {type: static, input: filename}")
	} else {
		p("  content_encoder: {type: static, input: text}   # the embedded default; nothing to download")
	}
	p("")
	p("cache:")
	p("  cache_type: auto      # auto, cpu, gpu or none")
	p("  batch_size: 32        # objects encoded at once")
	p("  num_workers: 0        # 0: one a core")
	p("  # dtype: float16      # what is stored: float32 (default), float16 or int8, for half or a quarter of the size")
	p("  # access: copy        # reads the cache into memory to replay it; mapped (default) leaves it on the disk")
	p("  save_dir: cache_dir   # leave out to keep the embeddings in memory only")
	p("")
	p("head: {type: skip_connection}")
	if s.Kind == "pair" {
		p("loss: {type: multiple_negatives_ranking, scale: 20, symmetric: true}")
	} else {
		p("loss: {type: softmax}")
	}
	p("train: {epochs: 30, batch_size: 256, optimizer: {type: adam, lr: 1e-3}}")
	p("metrics: [{type: retrieval_precision, k: 1}, {type: reciprocal_rank}]")
	p("output: out             # the trained head and the report")
	return b.String()
}

func splitText(name string, d *dataset) string {
	if d.godoc {
		return fmt.Sprintf("{godoc: std, part: %s}   # documentation and signatures of the Go standard library", name)
	}
	f := d.splits[name]
	var paths []string
	for _, n := range f.names {
		paths = append(paths, scalar(n))
	}
	if len(paths) == 1 {
		return fmt.Sprintf("{%s: %s}", f.format, paths[0])
	}
	return fmt.Sprintf("{%s: [%s]}", f.format, strings.Join(paths, ", "))
}

// columnLines describes columns in lines of about 80 characters.
func columnLines(cols []column) []string {
	var lines []string
	line := ""
	for _, c := range cols {
		item := fmt.Sprintf("%s (%s)", oneLine(c.Name), c.Type)
		if line != "" && len(line)+len(item) > 70 {
			lines = append(lines, line+",")
			line = ""
		}
		if line != "" {
			line += ", "
		}
		line += item
	}
	return append(lines, line)
}

// restOf are the plain columns that no sample uses.
func restOf(cols []column, s sample) []string {
	var out []string
	for _, c := range cols {
		used := []string{s.A, s.B, s.Label, s.Score}
		if !slices.Contains(used, c.Name) && !slices.Contains([]string{"nested", "bytes", ""}, c.Type) {
			out = append(out, scalar(c.Name))
		}
	}
	return out
}

// scalar writes a text as a YAML value, quoted where it must be.
func scalar(s string) string {
	plain := regexp.MustCompile(`^[A-Za-z_./][A-Za-z0-9_./-]*$`)
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "null", "y", "n", ".inf", ".nan":
	default:
		if plain.MatchString(s) {
			return s
		}
	}
	b, _ := json.Marshal(strings.ReplaceAll(s, "${", "$${"))
	return string(b)
}

// oneLine is a text for a comment.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) { // also the line breaks that YAML knows beyond ASCII
			return ' '
		}
		return r
	}, s)
}
