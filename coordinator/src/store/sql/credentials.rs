//! Tokens and identities in the database.

use super::{
    super::{
        StoreError,
        credentials::{Credentials, Grants, IdentityRow, TokenRow},
    },
    SqlStore,
    rows::id_of,
};
use async_trait::async_trait;
use ferry_common::{clock::Millis, id::IdentityId};
use sqlx::{Row as _, any::AnyRow};

/// The role of a token that lets nodes join.
const JOIN: &str = "join";

fn read_token(row: &AnyRow) -> Result<TokenRow, StoreError> {
    let unreadable = |why: String| StoreError::Unreadable { table: "tokens", why };
    let role: String = row.try_get("role")?;
    let grants = if role == JOIN {
        let uses_left: Option<i64> = row.try_get("uses_left")?;
        Grants::Join {
            runtime: id_of("tokens", row.try_get("runtime")?)?,
            uses_left: uses_left.map(|n| u32::try_from(n).unwrap_or(0)),
        }
    } else {
        Grants::Api(role.parse().map_err(unreadable)?)
    };
    Ok(TokenRow {
        id: row.try_get("id")?,
        secret_hash: row.try_get("secret_hash")?,
        grants,
        created: Millis(row.try_get("created_ms")?),
        ends: Millis(row.try_get("ends_ms")?),
        revoked: row.try_get::<Option<i64>, _>("revoked_ms")?.map(Millis),
    })
}

fn read_identity(row: &AnyRow) -> Result<IdentityRow, StoreError> {
    Ok(IdentityRow {
        id: id_of("identities", row.try_get("id")?)?,
        runtime: id_of("identities", row.try_get("runtime")?)?,
        name: row.try_get("name")?,
        token: row.try_get("token_id")?,
        key_hash: row.try_get("key_hash")?,
        joined: Millis(row.try_get("joined_ms")?),
        ends: Millis(row.try_get("ends_ms")?),
        revoked: row.try_get::<Option<i64>, _>("revoked_ms")?.map(Millis),
    })
}

#[async_trait]
impl Credentials for SqlStore {
    async fn insert_token(&self, token: &TokenRow) -> Result<(), StoreError> {
        let (role, runtime, uses_left) = match &token.grants {
            Grants::Api(role) => (role.name(), "", None),
            Grants::Join { runtime, uses_left } => (JOIN, runtime.as_str(), uses_left.map(i64::from)),
        };
        let sql = "INSERT INTO tokens (id, secret_hash, role, runtime, uses_left, created_ms, ends_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let query = sqlx::query(sql).bind(&token.id).bind(&token.secret_hash).bind(role).bind(runtime);
        query.bind(uses_left).bind(token.created.0).bind(token.ends.0).execute(&self.writer).await?;
        Ok(())
    }

    async fn token(&self, id: &str) -> Result<Option<TokenRow>, StoreError> {
        let query = sqlx::query("SELECT * FROM tokens WHERE id = $1").bind(id);
        query.fetch_optional(&self.readers).await?.as_ref().map(read_token).transpose()
    }

    async fn tokens(&self, limit: u32) -> Result<Vec<TokenRow>, StoreError> {
        let query = sqlx::query("SELECT * FROM tokens ORDER BY created_ms DESC, id LIMIT $1").bind(i64::from(limit));
        query.fetch_all(&self.readers).await?.iter().map(read_token).collect()
    }

    async fn revoke_token(&self, id: &str, now: Millis) -> Result<bool, StoreError> {
        let sql = "UPDATE tokens SET revoked_ms = COALESCE(revoked_ms, $1) WHERE id = $2";
        Ok(sqlx::query(sql).bind(now.0).bind(id).execute(&self.writer).await?.rows_affected() > 0)
    }

    async fn join(&self, identity: &IdentityRow) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        let sql = "UPDATE tokens SET uses_left = uses_left - 1 \
             WHERE id = $1 AND revoked_ms IS NULL AND (uses_left IS NULL OR uses_left > 0)";
        let used = sqlx::query(sql).bind(&identity.token).execute(&mut *transaction).await?;
        if used.rows_affected() != 1 {
            return Err(StoreError::Conflict);
        }
        let sql = "INSERT INTO identities (id, runtime, name, token_id, key_hash, joined_ms, ends_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let query = sqlx::query(sql).bind(identity.id.as_str()).bind(identity.runtime.as_str()).bind(&identity.name);
        let query = query.bind(&identity.token).bind(&identity.key_hash).bind(identity.joined.0).bind(identity.ends.0);
        match query.execute(&mut *transaction).await {
            Err(e) if e.as_database_error().is_some_and(|d| d.is_unique_violation()) => Err(StoreError::Conflict),
            Err(e) => Err(e.into()),
            Ok(_) => Ok(transaction.commit().await?),
        }
    }

    async fn identity(&self, id: &IdentityId) -> Result<Option<IdentityRow>, StoreError> {
        let query = sqlx::query("SELECT * FROM identities WHERE id = $1").bind(id.as_str());
        query.fetch_optional(&self.readers).await?.as_ref().map(read_identity).transpose()
    }

    async fn identity_of(&self, token: &str, key_hash: &str) -> Result<Option<IdentityRow>, StoreError> {
        let query = sqlx::query("SELECT * FROM identities WHERE token_id = $1 AND key_hash = $2");
        let query = query.bind(token).bind(key_hash);
        query.fetch_optional(&self.readers).await?.as_ref().map(read_identity).transpose()
    }

    async fn identities(&self, id_or_name: &str) -> Result<Vec<IdentityRow>, StoreError> {
        let query = sqlx::query("SELECT * FROM identities WHERE id = $1 OR name = $2 ORDER BY joined_ms");
        let query = query.bind(id_or_name).bind(id_or_name);
        query.fetch_all(&self.readers).await?.iter().map(read_identity).collect()
    }

    async fn renew_identity(&self, id: &IdentityId, ends: Millis) -> Result<(), StoreError> {
        let sql = "UPDATE identities SET ends_ms = $1 WHERE id = $2 AND revoked_ms IS NULL";
        let done = sqlx::query(sql).bind(ends.0).bind(id.as_str()).execute(&self.writer).await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Conflict) }
    }

    async fn revoke_identity(&self, id: &IdentityId, now: Millis) -> Result<(), StoreError> {
        let sql = "UPDATE identities SET revoked_ms = COALESCE(revoked_ms, $1) WHERE id = $2";
        sqlx::query(sql).bind(now.0).bind(id.as_str()).execute(&self.writer).await?;
        Ok(())
    }

    async fn forget_credentials(&self, ended_before: Millis) -> Result<(), StoreError> {
        for sql in ["DELETE FROM tokens WHERE ends_ms < $1", "DELETE FROM identities WHERE ends_ms < $1"] {
            sqlx::query(sql).bind(ended_before.0).execute(&self.writer).await?;
        }
        Ok(())
    }
}
