package ledger

import (
	"encoding/json"
	"fmt"

	"cosmossdk.io/core/appmodule"
	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/codec"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/module"
	"github.com/grpc-ecosystem/grpc-gateway/runtime"
)

// Genesis is the module's part of the genesis file.
type Genesis struct {
	// Entries is the number of entries.
	Entries int `json:"entries"`

	// Size is the number of bytes of each entry after its prefix.
	Size int `json:"size"`
}

// Module makes the ledger known to the app.
type Module struct{ keeper Keeper }

var (
	_ appmodule.AppModule        = Module{}
	_ module.HasGenesis          = Module{}
	_ module.HasServices         = Module{}
	_ module.HasConsensusVersion = Module{}
)

// NewModule returns the module of a keeper.
func NewModule(k Keeper) Module { return Module{k} }

// IsAppModule marks the type as an app module.
func (Module) IsAppModule() {}

// IsOnePerModuleType marks the type as a module.
func (Module) IsOnePerModuleType() {}

// Name returns ModuleName.
func (Module) Name() string { return ModuleName }

// ConsensusVersion returns the version that x/upgrade compares to decide which migrations to run.
func (m Module) ConsensusVersion() uint64 { return m.keeper.version }

// RegisterLegacyAminoCodec does nothing: the module has no messages.
func (Module) RegisterLegacyAminoCodec(*codec.LegacyAmino) {}

// RegisterInterfaces does nothing: the module has no messages.
func (Module) RegisterInterfaces(codectypes.InterfaceRegistry) {}

// RegisterGRPCGatewayRoutes does nothing: the module has no queries.
func (Module) RegisterGRPCGatewayRoutes(client.Context, *runtime.ServeMux) {}

// RegisterServices registers the migrations.
func (m Module) RegisterServices(cfg module.Configurator) {
	for from, migrate := range map[uint64]module.MigrationHandler{
		1: m.keeper.migrate1to2,
		2: m.keeper.migrate2to3,
	} {
		if err := cfg.RegisterMigration(ModuleName, from, migrate); err != nil {
			panic(err)
		}
	}
}

// DefaultGenesis is a hundred small entries.
func (Module) DefaultGenesis(codec.JSONCodec) json.RawMessage {
	return mustMarshal(Genesis{Entries: 100, Size: 64})
}

// ValidateGenesis refuses negative numbers.
func (Module) ValidateGenesis(_ codec.JSONCodec, _ client.TxEncodingConfig, data json.RawMessage) error {
	var genesis Genesis
	if err := json.Unmarshal(data, &genesis); err != nil {
		return err
	}
	if genesis.Entries < 0 || genesis.Size < 0 {
		return fmt.Errorf("entries %d or size %d is negative", genesis.Entries, genesis.Size)
	}
	return nil
}

// InitGenesis writes the entries.
func (m Module) InitGenesis(ctx sdk.Context, _ codec.JSONCodec, data json.RawMessage) {
	var genesis Genesis
	if err := json.Unmarshal(data, &genesis); err != nil {
		panic(err)
	}
	m.keeper.init(ctx, genesis)
}

// ExportGenesis describes the entries.
func (m Module) ExportGenesis(ctx sdk.Context, _ codec.JSONCodec) json.RawMessage {
	return mustMarshal(m.keeper.export(ctx))
}

// mustMarshal encodes a genesis, which cannot fail.
func mustMarshal(genesis Genesis) json.RawMessage {
	data, err := json.Marshal(genesis)
	if err != nil {
		panic(err)
	}
	return data
}
