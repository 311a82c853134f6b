package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/source"
)

func (a *app) fillCommand() *cobra.Command {
	var flags configFlags
	var noEncode bool
	cmd := &cobra.Command{
		Use:   "fill CONFIG",
		Short: "Encode what the cache does not hold yet",
		Long: help(`
Reads the dataset, encodes each distinct object that the cache does not hold and
commits. A fill that was killed is taken up where it stopped.`,
			exitConfig, exitWouldEncode, exitCorrupt, exitNoSpace, exitQuarantined),
		Example: "  pipeline fill config.yaml\n  pipeline fill config.yaml --on-error quarantine --json",
		Args:    oneArg("a config file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := flags.load(cmd, args[0])
			if err != nil {
				return err
			}
			cfg.NoEncode = noEncode
			return a.fill(cmd.Context(), cfg)
		},
	}
	flags.add(cmd)
	flags.addSources(cmd)
	flags.addSpace(cmd)
	cmd.Flags().BoolVar(&noEncode, "no-encode", false, "fail with exit code 4 instead of encoding anything")
	return cmd
}

func (a *app) fill(ctx context.Context, cfg config) error {
	doc := struct {
		SchemaVersion int                  `json:"schema_version"`
		Fill          *pipeline.FillReport `json:"fill"`
		Cache         pipeline.CacheReport `json:"cache"`
	}{SchemaVersion: schemaVersion}
	err := a.withPipeline(ctx, cfg, func(ctx context.Context, p *pipeline.Pipeline[source.Fields]) (err error) {
		if doc.Fill, err = p.Fill(ctx); err == nil {
			doc.Cache = p.CacheReport(doc.Fill)
		}
		return err
	})
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(doc)
	} else {
		err = table(a.stdout, append(fillRows(doc.Fill), cacheRow(doc.Cache)))
	}
	if err != nil {
		return err
	}
	return quarantined(doc.Fill)
}
