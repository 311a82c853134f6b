package bounded

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	v := struct{ A int }{7}
	if there, err := JSON(path, 10, &v); there || err != nil || v.A != 7 {
		t.Errorf("no file gives %t, %v, %v", there, err, v)
	}
	for content, want := range map[string]string{
		`{"A": 123}`:  "",
		`{"A": 1234}`: "has more than 10 bytes",
		`{"A": "b"}`:  "config.json: json: cannot unmarshal string",
		``:            "config.json: unexpected end",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := JSON(path, 10, &v)
		if want == "" && (err != nil || v.A != 123) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q gives %v, %v, want %q", content, v, err, want)
		}
	}
}
