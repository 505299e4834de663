//! Pass: what makes a link lead into a group: its maker's word that whoever holds it is taken in.
//! Owns: the signature of the device that made it. Never: knows whether that device's owner may take anybody in, or whether the
//! link still holds: both are asked when somebody comes by it.
//! Rules: docs/protocol/invite.md.

use whimbrel_protocol::canonical;
use whimbrel_protocol::id::{DeviceIndex, ThreadId};
use whimbrel_protocol::invite::{Invite, PASS_CONTEXT, Pass, PassWords};
use whimbrel_protocol::time::Wall;

use crate::account_log::AccountLog;
use crate::keys::{self, KeyPair, SignatureError};

/// Makes an invite lead into a group.
pub fn sign(device: (&KeyPair, DeviceIndex), invite: Invite, group: ThreadId, until: Wall) -> Invite {
    let (key, device) = device;
    let words = PassWords { group, token: invite.token.hash(), until };
    let signature = key.sign(PASS_CONTEXT, &canonical::encode(&words));
    Invite { pass: Some(Pass { group, device, until, signature }), ..invite }
}

/// Checks a link into a group against the account log of whoever it is by. A link into no group passes.
///
/// # Errors
/// The log is another account's, has no such device, or that device did not sign this.
pub fn verify(log: &AccountLog, invite: &Invite) -> Result<(), SignatureError> {
    let (Some(pass), Some(words)) = (&invite.pass, invite.pass_words()) else { return Ok(()) };
    let device = log.device(pass.device).filter(|_| log.account() == invite.account).ok_or(SignatureError)?;
    keys::verify(&device.device_key, PASS_CONTEXT, &canonical::encode(&words), &pass.signature)
}
