//! Errors: the MLS library's refusals in the house's words.
//! Owns: which refusal means what to a caller. Never: lets a secret or a content into a text.

use std::fmt;

use openmls::framing::errors::{MessageDecryptionError, SecretTreeError};
use openmls::group::{MlsGroupStateError, ProcessMessageError, StageCommitError, ValidationError, WelcomeError};
use openmls::prelude::CreationFromExternalError;

use super::store::RowsFailed;
use crate::engine::EngineError;

/// A defect of ours or the library's.
pub(super) fn library(error: impl fmt::Display) -> EngineError {
    EngineError::Library(error.to_string())
}

pub(super) fn malformed<E>(_: E) -> EngineError {
    EngineError::Malformed
}

/// A message, of an epoch we have, that did not open or verify.
pub(super) fn processing(error: ProcessMessageError<RowsFailed>) -> EngineError {
    match error {
        ProcessMessageError::ValidationError(error) => validation(error),
        ProcessMessageError::GroupStateError(MlsGroupStateError::UseAfterEviction) => EngineError::NotMember,
        ProcessMessageError::InvalidCommit(error) => commit(error),
        ProcessMessageError::IncompatibleWireFormat => EngineError::Malformed,
        ProcessMessageError::UnauthorizedExternalApplicationMessage
        | ProcessMessageError::UnauthorizedExternalCommitMessage
        | ProcessMessageError::UnsupportedProposalType => EngineError::Untrusted,
        other => library(other),
    }
}

pub(super) fn validation(error: ValidationError) -> EngineError {
    match error {
        ValidationError::UnableToDecrypt(error) => decryption(error),
        ValidationError::InvalidSignature
        | ValidationError::InvalidMembershipTag
        | ValidationError::MissingMembershipTag
        | ValidationError::InvalidLeafNodeSignature
        | ValidationError::UnknownMember => EngineError::BadSignature,
        ValidationError::LibraryError(error) => library(error),
        ValidationError::UnauthorizedExternalSender | ValidationError::NonMemberApplicationMessage => {
            EngineError::Untrusted
        }
        _ => EngineError::Malformed,
    }
}

fn decryption(error: MessageDecryptionError) -> EngineError {
    match error {
        MessageDecryptionError::SecretTreeError(error) => match error {
            SecretTreeError::SecretReuseError => EngineError::AlreadyOpened,
            SecretTreeError::TooDistantInThePast | SecretTreeError::TooDistantInTheFuture => EngineError::TooDistant,
            // The sender data decrypted to a leaf or ratchet that is not there.
            _ => EngineError::BadSignature,
        },
        MessageDecryptionError::AeadError => EngineError::BadSignature,
        _ => EngineError::Malformed,
    }
}

pub(super) fn commit(error: StageCommitError) -> EngineError {
    match error {
        StageCommitError::LibraryError(error) => library(error),
        StageCommitError::PathLeafNodeVerificationFailure
        | StageCommitError::ConfirmationTagMismatch
        | StageCommitError::ConfirmationTagMissing
        | StageCommitError::UpdatePathError(_)
        | StageCommitError::VerifiedUpdatePathError(_) => EngineError::BadSignature,
        _ => EngineError::Untrusted,
    }
}

pub(super) fn welcome(error: WelcomeError<RowsFailed>) -> EngineError {
    match error {
        WelcomeError::NoMatchingKeyPackage | WelcomeError::JoinerSecretNotFound => EngineError::NoKeyPackage,
        WelcomeError::GroupAlreadyExists => EngineError::Untrusted,
        WelcomeError::GroupSecrets(_)
        | WelcomeError::GroupInfo(_)
        | WelcomeError::UnableToDecrypt
        | WelcomeError::ConfirmationTagMismatch
        | WelcomeError::InvalidGroupInfoSignature
        | WelcomeError::PublicTreeError(_)
        | WelcomeError::PublicGroupError(_)
        | WelcomeError::LeafNodeValidation(_) => EngineError::BadSignature,
        WelcomeError::LibraryError(error) => library(error),
        _ => EngineError::Malformed,
    }
}

/// A tree and a GroupInfo that make no public state.
pub(super) fn founding<E: fmt::Display>(error: CreationFromExternalError<E>) -> EngineError {
    match error {
        CreationFromExternalError::LibraryError(error) => library(error),
        CreationFromExternalError::WriteToStorageError(error) => library(error),
        CreationFromExternalError::TreeSyncError(_)
        | CreationFromExternalError::UnknownSender
        | CreationFromExternalError::InvalidGroupInfoSignature
        | CreationFromExternalError::TreeHashMismatch => EngineError::BadSignature,
        _ => EngineError::Untrusted,
    }
}
