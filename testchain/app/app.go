// Package app is a small chain on the Cosmos SDK that can be upgraded.
//
// One source builds its three versions: the linker sets Version. v1 knows no upgrade. v2 knows the
// upgrade "v2", which adds a store and migrates the ledger, so its first start needs
// data/upgrade-info.json as many real chains do. v3 knows "v2" and "v3" and adds no store.
package app

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"cosmossdk.io/depinject"
	"cosmossdk.io/log/v2"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/cosmos-sdk/baseapp"
	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/client/flags"
	"github.com/cosmos/cosmos-sdk/codec"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	"github.com/cosmos/cosmos-sdk/runtime"
	servertypes "github.com/cosmos/cosmos-sdk/server/types"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdkmodule "github.com/cosmos/cosmos-sdk/types/module"
	distributionkeeper "github.com/cosmos/cosmos-sdk/x/distribution/keeper"
	slashingkeeper "github.com/cosmos/cosmos-sdk/x/slashing/keeper"
	"github.com/cosmos/cosmos-sdk/x/staking"
	stakingkeeper "github.com/cosmos/cosmos-sdk/x/staking/keeper"
	upgradekeeper "github.com/cosmos/cosmos-sdk/x/upgrade/keeper"
	upgradetypes "github.com/cosmos/cosmos-sdk/x/upgrade/types"
	"github.com/spf13/cast"

	"solstice/testchain/ledger"
)

// Version is v1, v2 or v3. The linker sets it.
var Version = "v1"

// App is the chain's application.
type App struct {
	*runtime.App

	// Basics are the modules without their keepers, for the command line.
	Basics sdkmodule.BasicManager
	// Codec, Registry, Amino and TxConfig read and write the chain's types.
	Codec    codec.Codec
	Registry codectypes.InterfaceRegistry
	Amino    *codec.LegacyAmino
	TxConfig client.TxConfig
	// ConsensusAddressCodec reads and writes the addresses of validator keys.
	ConsensusAddressCodec runtime.ConsensusAddressCodec

	staking      *stakingkeeper.Keeper
	slashing     slashingkeeper.Keeper
	distribution distributionkeeper.Keeper
	upgrade      *upgradekeeper.Keeper
}

// New builds the app on a database; Load opens its state. Without a home in its options it reads no
// upgrade-info.json: that is how the command line asks for the modules.
func New(logger log.Logger, db dbm.DB, options servertypes.AppOptions, baseOptions ...func(*baseapp.BaseApp)) (*App, error) {
	a := &App{}
	var builder *runtime.AppBuilder
	err := depinject.Inject(depinject.Configs(config, depinject.Supply(logger, options)),
		&builder, &a.Basics, &a.Codec, &a.Registry, &a.Amino, &a.TxConfig, &a.ConsensusAddressCodec,
		&a.staking, &a.slashing, &a.distribution, &a.upgrade)
	if err != nil {
		return nil, fmt.Errorf("wire modules: %w", err)
	}
	a.App = builder.Build(db, baseOptions...)

	version, err := strconv.ParseUint(strings.TrimPrefix(Version, "v"), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("read version %q: %w", Version, err)
	}
	keeper := ledger.NewKeeper(version)
	if err := a.RegisterStores(keeper.StoreKeys()...); err != nil {
		return nil, err
	}
	if err := a.RegisterModules(ledger.NewModule(keeper)); err != nil {
		return nil, err
	}
	a.upgrade.SetInitVersionMap(a.ModuleManager.GetVersionMap())

	for v := uint64(2); v <= version; v++ {
		a.upgrade.SetUpgradeHandler(fmt.Sprintf("v%d", v), a.migrate)
	}
	if cast.ToString(options.Get(flags.FlagHome)) != "" && version >= 2 {
		plan, err := a.upgrade.ReadUpgradeInfoFromDisk()
		if err != nil {
			return nil, fmt.Errorf("read upgrade-info.json: %w", err)
		}
		if plan.Name == "v2" {
			a.addStores(plan.Height)
		}
	}
	return a, nil
}

// migrate handles every upgrade: the modules' own migrations are all there is to do.
func (a *App) migrate(ctx context.Context, _ upgradetypes.Plan, from sdkmodule.VersionMap) (sdkmodule.VersionMap, error) {
	return a.ModuleManager.RunMigrations(ctx, a.Configurator(), from)
}

// addStores adds the store of v2 when the app loads at this height. At any other height the stores
// are loaded as they are.
func (a *App) addStores(height int64) {
	a.SetStoreLoader(upgradetypes.UpgradeStoreLoader(height, &storetypes.StoreUpgrades{
		Added: []string{ledger.TotalsName},
	}))
}

// Export returns the state as a genesis.
func (a *App) Export(modules []string) (servertypes.ExportedApp, error) {
	ctx := a.NewContextLegacy(true, header(a.LastBlockHeight()))
	state, err := a.ModuleManager.ExportGenesisForModules(ctx, a.Codec, modules)
	if err != nil {
		return servertypes.ExportedApp{}, fmt.Errorf("export modules: %w", err)
	}
	data, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return servertypes.ExportedApp{}, err
	}
	validators, err := staking.WriteValidators(ctx, a.staking)
	if err != nil {
		return servertypes.ExportedApp{}, fmt.Errorf("export validators: %w", err)
	}
	return servertypes.ExportedApp{
		AppState:        data,
		Validators:      validators,
		Height:          a.LastBlockHeight() + 1,
		ConsensusParams: a.GetConsensusParams(ctx),
	}, nil
}
