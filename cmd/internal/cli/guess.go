package cli

import (
	"slices"
	"strings"
)

// sample says which columns make a sample.
type sample struct {
	Kind  string `json:"kind"` // pair or group
	A     string `json:"a"`    // the first text, or a group's only one
	B     string `json:"b,omitempty"`
	Score string `json:"score,omitempty"`
	Label string `json:"label,omitempty"`
}

// pairNames are the usual names of two columns that match, the likeliest
// first.
func pairNames() [][2]string {
	return [][2]string{
		{"question", "answer"},
		{"query", "positive"},
		{"anchor", "positive"},
		{"query", "passage"},
		{"query", "document"},
		{"query", "answer"},
		{"question", "context"},
		{"question", "passage"},
		{"text_a", "text_b"},
		{"text1", "text2"},
		{"sentence1", "sentence2"},
		{"sentence_a", "sentence_b"},
		{"premise", "hypothesis"},
		{"question1", "question2"},
		{"doc", "signature"},
		{"prompt", "response"},
		{"instruction", "output"},
		{"input", "output"},
		{"source", "target"},
		{"title", "abstract"},
		{"title", "body"},
		{"title", "text"},
		{"summary", "text"},
		{"a", "b"},
	}
}

// textNames and labelNames are the usual names of a text and of its class.
func textNames() []string {
	return []string{"text", "sentence", "utterance", "content", "body", "message", "query", "question", "document", "title", "description"}
}

func labelNames() []string {
	return []string{"label", "category", "class", "intent", "topic", "label_text", "tag", "target"}
}

func scoreNames() []string { return []string{"score", "similarity", "similarity_score"} }

// guess finds a pair or a group by the names of columns, and where these say
// nothing by what is in them.
func guess(cols []column) (sample, bool) {
	texts := slices.DeleteFunc(slices.Clone(cols), func(c column) bool { return c.Type != "text" })
	for _, p := range pairNames() {
		if a, b := fold(texts, p[0]), fold(texts, p[1]); a != "" && b != "" {
			return sample{Kind: "pair", A: a, B: b, Score: scoreOf(cols)}, true
		}
	}
	text, label := first(texts, textNames()), labelOf(cols)
	if label != "" && text == "" {
		text = longest(texts, label)
	}
	if text == "" {
		text = longest(texts, "")
	}
	if label == "" {
		label = fewest(cols, text)
	}
	switch {
	case text == "":
		return sample{}, false
	case label != "":
		return sample{Kind: "group", A: text, Label: label}, true
	case len(texts) == 2:
		return sample{Kind: "pair", A: texts[0].Name, B: texts[1].Name, Score: scoreOf(cols)}, true
	}
	return sample{}, false
}

// fold returns the column of that name, whatever its case, or "".
func fold(cols []column, name string) string {
	for _, c := range cols {
		if strings.EqualFold(c.Name, name) {
			return c.Name
		}
	}
	return ""
}

func first(cols []column, names []string) string {
	for _, n := range names {
		if c := fold(cols, n); c != "" {
			return c
		}
	}
	return ""
}

func scoreOf(cols []column) string {
	name := first(cols, scoreNames())
	if c := find(cols, name); c != nil && (c.Type == "number" || c.Type == "integer") {
		return name
	}
	return ""
}

func labelOf(cols []column) string {
	name := first(cols, labelNames())
	if c := find(cols, name); c != nil && (c.Type == "text" || c.Type == "integer") {
		return name
	}
	return ""
}

// longest returns the column with the longest texts on average.
func longest(texts []column, except string) string {
	best, name := 0.0, ""
	for _, c := range texts {
		if mean := float64(c.length) / float64(max(c.Rows, 1)); c.Name != except && mean > best {
			best, name = mean, c.Name
		}
	}
	return name
}

// fewest returns the column whose values repeat most, as labels do: each at
// least twice on average, and short.
func fewest(cols []column, except string) string {
	best, name := 0, ""
	for _, c := range cols {
		if c.Name == except || c.Type != "text" && c.Type != "integer" || c.Distinct < 2 || 2*c.Distinct > c.Rows || c.length > 64*c.Rows {
			continue
		}
		if name == "" || c.Distinct < best {
			best, name = c.Distinct, c.Name
		}
	}
	return name
}
