package models

import (
	"path"
	"slices"
	"strings"
)

// Omitted is a file of a source that is not taken.
type Omitted struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// Why files are not taken.
const (
	whyPickle  = "a pickle: reading it can run code"
	whyRuntime = "of another runtime"
	whyOther   = "not read by any encoder"
	whyWeights = "other weights"
	whyHidden  = "hidden"
)

var (
	pickles = []string{".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"}
	// runtimes are folders of exports that no encoder here reads.
	runtimes = []string{"openvino", "coreml", "tflite", "tf", "flax"}
	texts    = []string{".json", ".txt", ".model"}
	notices  = []string{"readme.md", "license", "licence", "notice", "copying"}
)

// omit says why the file of a path is not one that encoders, or those who
// look after a model, read; "" if it is.
func omit(name string) string {
	dir, base := path.Split(strings.ToLower(name))
	for p := range strings.SplitSeq(strings.TrimSuffix(dir, "/"), "/") {
		if slices.Contains(runtimes, p) {
			return whyRuntime
		}
		if p == "__pycache__" || strings.HasPrefix(p, ".") {
			return whyHidden
		}
	}
	ext := path.Ext(base)
	stem := strings.TrimSuffix(base, ext)
	switch {
	case strings.HasPrefix(base, "."), base == ManifestName:
		return whyHidden
	case slices.Contains(pickles, ext):
		return whyPickle
	case isWeights(base), slices.Contains(texts, ext), slices.Contains(notices, base):
		return ""
	case slices.Contains(notices, stem) && slices.Contains([]string{".md", ".rst"}, ext):
		return ""
	}
	return whyOther
}

// isWeights: a safetensors file, an ONNX graph or the data beside one.
func isWeights(name string) bool {
	return strings.HasSuffix(name, ".safetensors") || strings.HasSuffix(name, ".onnx") || isGraphData(name)
}

// isGraphData: the weights that an ONNX graph keeps in files of their own.
func isGraphData(name string) bool {
	return strings.Contains(name, ".onnx_data") || strings.HasSuffix(name, ".onnx.data")
}

// roots returns the folders among the files of paths that are models, "" for
// the top: those with modules.json and weights somewhere below, and those
// with config.json or preprocessor_config.json and weights beside it or in
// the folder onnx. What lies inside a model is a part of it.
func roots(paths []string) []string {
	has := map[string]bool{}     // folders with weights in them
	below := map[string]bool{}   // folders with weights in or below them
	modules := map[string]bool{} // folders by what they hold
	configs := map[string]bool{}
	for _, p := range paths {
		dir, base := path.Split(p)
		dir = strings.TrimSuffix(dir, "/")
		switch {
		case base == "modules.json":
			modules[dir] = true
		case base == "config.json", base == "preprocessor_config.json":
			configs[dir] = true
		case isWeights(base) && !isGraphData(base):
			has[dir] = true
			for up := dir; !below[up]; up = parent(up) {
				below[up] = true
			}
		}
	}
	var out []string
	for dir := range below {
		if modules[dir] || configs[dir] && (has[dir] || has[path.Join(dir, "onnx")]) {
			out = append(out, dir)
		}
	}
	slices.Sort(out)
	return slices.DeleteFunc(slices.Clone(out), func(dir string) bool {
		for up := dir; up != ""; {
			up = parent(up)
			if slices.Contains(out, up) {
				return true
			}
		}
		return false
	})
}

// parent is the folder above a slash-separated one, "" for the top.
func parent(dir string) string {
	if up := path.Dir(dir); up != "." {
		return up
	}
	return ""
}
