package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/pipeline"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Long:    help("Prints the version of the program, of Go and of the cache format, and the kinds of encoders that a config can name."),
		Example: "  pipeline version --json",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return a.version() },
	}
}

func (a *app) version() error {
	doc := struct {
		SchemaVersion int      `json:"schema_version"`
		Version       string   `json:"version"`
		Revision      string   `json:"revision"`
		Go            string   `json:"go"`
		Platform      string   `json:"platform"`
		CacheFormat   int      `json:"cache_format"`
		Engines       []string `json:"engines"`
	}{
		SchemaVersion: schemaVersion, Version: "unknown", Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, CacheFormat: cachesink.FormatVersion, Engines: pipeline.Engines(),
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		doc.Version = info.Main.Version
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				doc.Revision = s.Value + doc.Revision
			case s.Key == "vcs.modified" && s.Value == "true":
				doc.Revision += "+modified"
			}
		}
	}
	if a.json {
		return a.printJSON(doc)
	}
	rows := [][]string{{"pipeline", strings.TrimSpace(doc.Version + " " + doc.Revision)}, {"go", doc.Go + " " + doc.Platform}}
	return table(a.stdout, append(rows,
		[]string{"cache format", fmt.Sprint(doc.CacheFormat)}, []string{"engines", strings.Join(doc.Engines, ", ")}))
}
