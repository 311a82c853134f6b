package models

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// choose returns the files to pull among those of a repository, sorted, and
// those that are left out.
//
// By default these are all but weights, and of the weights model.safetensors
// (or its shards) in each of the model's folders; with onnx, the graph
// onnx/model.onnx or model.onnx with its data in place of the model's own
// safetensors. If a pattern names weights, these are taken in place of both.
func choose(paths []string, onnx bool, include []string) (chosen []string, omitted []Omitted, err error) {
	slices.Sort(paths)
	var files []string
	for _, p := range paths {
		if why := omit(p); why == "" {
			files = append(files, p)
		} else if why != whyHidden {
			omitted = append(omitted, Omitted{p, why})
		}
	}
	named := map[string]bool{}
	weights := false
	for _, pattern := range include {
		hit := false
		for _, p := range files {
			ok, err := match(pattern, p)
			if err != nil {
				return nil, nil, err
			}
			if ok {
				hit, named[p] = true, true
				weights = weights || isWeights(p)
			}
		}
		if !hit {
			return nil, nil, fmt.Errorf("%w: no file that encoders read matches %q; there are %s", ErrNoModel, pattern, list(files))
		}
	}
	graph := ""
	if onnx && !weights {
		if graph, err = chooseGraph(files); err != nil {
			return nil, nil, err
		}
	}
	for _, p := range files {
		take := named[p]
		dir, base := path.Split(p)
		switch {
		case take:
		case isWeights(p):
			switch {
			case weights:
				take = isGraphData(p) && slices.ContainsFunc(files, func(g string) bool { return named[g] && strings.HasSuffix(g, ".onnx") && dataOf(g, p) })
			case graph != "":
				take = p == graph || isGraphData(p) && dataOf(graph, p) || ownWeights(base) && !isBackbone(dir)
			default:
				take = ownWeights(base)
			}
		case strings.HasPrefix(p, "onnx/"):
			take = strings.HasPrefix(graph, "onnx/")
		default:
			take = true
		}
		if take {
			chosen = append(chosen, p)
		} else {
			omitted = append(omitted, Omitted{p, whyWeights})
		}
	}
	slices.SortFunc(omitted, func(a, b Omitted) int { return strings.Compare(a.Path, b.Path) })
	if !slices.Contains(roots(chosen), "") {
		return nil, nil, unusable(files, omitted)
	}
	return chosen, omitted, nil
}

// unusable says what a repository lacks.
func unusable(files []string, omitted []Omitted) error {
	var graphs, tensors []string
	for _, f := range files {
		switch {
		case strings.HasSuffix(f, ".onnx"):
			graphs = append(graphs, f)
		case strings.HasSuffix(f, ".safetensors"):
			tensors = append(tensors, f)
		}
	}
	switch i := slices.IndexFunc(omitted, func(o Omitted) bool { return o.Reason == whyPickle }); {
	case len(tensors) > 0 && slices.ContainsFunc(tensors, func(f string) bool { return !ownWeights(path.Base(f)) }):
		return fmt.Errorf("%w: no model.safetensors, but %s: name the weights with --include", ErrNoModel, list(tensors))
	case len(graphs) > 0 && len(tensors) == 0:
		return fmt.Errorf("%w: no safetensors, but %s: take the graph with --onnx", ErrNoModel, list(graphs))
	case i >= 0:
		return fmt.Errorf("%w: the weights are in %s, %s; convert them to safetensors", ErrNoModel, omitted[i].Path, whyPickle)
	}
	return fmt.Errorf("%w: %s", ErrNoModel, needed)
}

// shard is the name of a part of the weights.
var shard = regexp.MustCompile(`^model-\d{5}-of-\d{5}\.safetensors$`)

// ownWeights: model.safetensors or a part of it, not a variant.
func ownWeights(base string) bool { return base == "model.safetensors" || shard.MatchString(base) }

// isBackbone: the folder of the transformer itself, whose weights a graph
// replaces; the other modules' stay.
func isBackbone(dir string) bool { return dir == "" || strings.HasPrefix(dir, "0_") }

// dataOf reports whether a file holds the weights of a graph.
func dataOf(graph, p string) bool {
	rest, ok := strings.CutPrefix(p, graph)
	return ok && (strings.HasPrefix(rest, "_data") || rest == ".data")
}

// chooseGraph returns the plain ONNX graph.
func chooseGraph(files []string) (string, error) {
	var graphs []string
	for _, f := range files {
		if strings.HasSuffix(f, ".onnx") {
			graphs = append(graphs, f)
		}
	}
	for _, want := range []string{"onnx/model.onnx", "model.onnx"} {
		if slices.Contains(graphs, want) {
			return want, nil
		}
	}
	switch len(graphs) {
	case 0:
		return "", fmt.Errorf("%w: it has no .onnx file", ErrNoModel)
	case 1:
		return graphs[0], nil
	}
	return "", fmt.Errorf("%w: choose a graph with --include: %s", ErrAmbiguous, list(graphs))
}

// match matches a pattern with a slash to the path, one without to the name.
func match(pattern, p string) (bool, error) {
	if !strings.Contains(pattern, "/") {
		p = path.Base(p)
	}
	ok, err := path.Match(pattern, p)
	if err != nil {
		err = fmt.Errorf("%w: %q", err, pattern)
	}
	return ok, err
}

// list joins the first of many names.
func list(names []string) string {
	const most = 20
	text := strings.Join(names[:min(len(names), most)], ", ")
	if len(names) > most {
		text += fmt.Sprintf(" and %d more", len(names)-most)
	}
	return cmp.Or(text, "none")
}
