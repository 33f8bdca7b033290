package app

import (
	"errors"
	"fmt"

	"cosmossdk.io/math"
	"github.com/cometbft/cometbft/crypto"
	cmtbytes "github.com/cometbft/cometbft/libs/bytes"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	cryptocodec "github.com/cosmos/cosmos-sdk/crypto/codec"
	"github.com/cosmos/cosmos-sdk/server"
	servertypes "github.com/cosmos/cosmos-sdk/server/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	distributiontypes "github.com/cosmos/cosmos-sdk/x/distribution/types"
	slashingtypes "github.com/cosmos/cosmos-sdk/x/slashing/types"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"
	upgradetypes "github.com/cosmos/cosmos-sdk/x/upgrade/types"
)

// AddTestnetStores makes the app ready to load state from before the upgrade that in-place-testnet
// is asked to trigger. It is called before Load.
func (a *App) AddTestnetStores(options servertypes.AppOptions) {
	if name, _ := options.Get(server.KeyTriggerTestnetUpgrade).(string); name == "v2" {
		a.addStores(a.LastBlockHeight() + 1)
	}
}

// BecomeTestnet gives all voting power to one new validator, whose keys in-place-testnet has put
// into the options, and schedules the upgrade that it is asked to trigger.
func (a *App) BecomeTestnet(options servertypes.AppOptions) error {
	address, ok1 := options.Get(server.KeyNewValAddr).(cmtbytes.HexBytes)
	key, ok2 := options.Get(server.KeyUserPubKey).(crypto.PubKey)
	operator, ok3 := options.Get(server.KeyNewOpAddr).(string)
	if !ok1 || !ok2 || !ok3 {
		return errors.New("in-place-testnet has left its keys out of the options")
	}
	//lint:ignore SA1019 in-place-testnet changes the committed state itself: there is no other context for that
	ctx := a.NewUncachedContext(true, header(a.LastBlockHeight()))
	if err := a.replaceValidators(ctx, operator, sdk.ConsAddress(address), key); err != nil {
		return fmt.Errorf("replace validators: %w", err)
	}
	if name, _ := options.Get(server.KeyTriggerTestnetUpgrade).(string); name != "" {
		plan := upgradetypes.Plan{Name: name, Height: a.LastBlockHeight() + 1}
		if err := a.upgrade.ScheduleUpgrade(ctx, plan); err != nil {
			return fmt.Errorf("schedule upgrade %q: %w", name, err)
		}
	}
	return nil
}

// replaceValidators leaves one validator in staking, with the records that distribution and
// slashing keep for it.
func (a *App) replaceValidators(ctx sdk.Context, operator string, address sdk.ConsAddress, key crypto.PubKey) error {
	account, err := sdk.AccAddressFromBech32(operator)
	if err != nil {
		return fmt.Errorf("read operator address: %w", err)
	}
	valAddress := sdk.ValAddress(account)
	sdkKey, err := cryptocodec.FromCmtPubKeyInterface(key)
	if err != nil {
		return err
	}
	validator, err := stakingtypes.NewValidator(valAddress.String(), sdkKey, stakingtypes.Description{Moniker: "testnet"})
	if err != nil {
		return err
	}
	validator.Status = stakingtypes.Bonded
	validator.Tokens = sdk.TokensFromConsensusPower(900_000_000, sdk.DefaultPowerReduction)
	validator.DelegatorShares = math.LegacyNewDecFromInt(validator.Tokens)

	// The power index alone decides who validates; the records of the old validators stay.
	old, err := a.staking.GetAllValidators(ctx)
	if err != nil {
		return err
	}
	for _, v := range old {
		oldAddress, err := sdk.ValAddressFromBech32(v.GetOperator())
		if err != nil {
			return err
		}
		if err := a.staking.DeleteValidatorByPowerIndex(ctx, v); err != nil {
			return err
		}
		if err := a.staking.DeleteLastValidatorPower(ctx, oldAddress); err != nil {
			return err
		}
	}

	info := slashingtypes.NewValidatorSigningInfo(address, a.LastBlockHeight()-1, 0, ctx.BlockTime(), false, 0)
	return errors.Join(
		a.staking.SetValidator(ctx, validator),
		a.staking.SetValidatorByConsAddr(ctx, validator),
		a.staking.SetValidatorByPowerIndex(ctx, validator),
		a.staking.SetLastValidatorPower(ctx, valAddress, 0),
		a.staking.Hooks().AfterValidatorCreated(ctx, valAddress),
		a.distribution.SetValidatorHistoricalRewards(ctx, valAddress, 0, distributiontypes.NewValidatorHistoricalRewards(sdk.DecCoins{}, 1)),
		a.distribution.SetValidatorCurrentRewards(ctx, valAddress, distributiontypes.NewValidatorCurrentRewards(sdk.DecCoins{}, 1)),
		a.distribution.SetValidatorAccumulatedCommission(ctx, valAddress, distributiontypes.InitialValidatorAccumulatedCommission()),
		a.distribution.SetValidatorOutstandingRewards(ctx, valAddress, distributiontypes.ValidatorOutstandingRewards{}),
		a.slashing.SetValidatorSigningInfo(ctx, address, info),
	)
}

// header is a block header of which only the height is known.
func header(height int64) cmtproto.Header { return cmtproto.Header{Height: height} }
