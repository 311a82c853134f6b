package cli

import (
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/pipeline"
)

// The engines that version names are those that a config can name.
func TestEngines(t *testing.T) {
	config := func(engine string) error {
		_, err := pipeline.ParseConfig("config.yaml", []byte(`
version: 1
dataset: {splits: {train: {jsonl: x}}, pair: {a: a, b: b}}
encoders: {e: {type: `+engine+`}}
`))
		return err
	}
	for _, e := range pipeline.Engines() {
		// Some need options, which is another error.
		if err := config(e); err != nil && strings.Contains(err.Error(), "unknown type") {
			t.Errorf("%s: %v", e, err)
		}
	}
	if err := config("unheard-of"); err == nil || !strings.Contains(err.Error(), "there is "+strings.Join(pipeline.Engines(), ", ")) {
		t.Errorf("an unknown engine gives %v", err)
	}
}
