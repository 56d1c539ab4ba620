//! Roles as the cluster tells them: `Database Rides Ingestor`, `Table Taxi Admin`, `Cluster AllDatabasesAdmin`.
//!
//! What is listed is held. What is not listed may be held all the same, through a group or from a wider scope.

use ferry_kusto::Table;

/// Roles that a sign-in is shown to have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Held(Vec<String>);

impl Held {
    /// Takes in what `.show ... principal roles` answers.
    pub(super) fn add(&mut self, table: &Table) {
        for row in &table.rows {
            let role = table.text(row, "Role").trim();
            if !role.is_empty() && !self.0.iter().any(|known| known == role) {
                self.0.push(role.to_owned());
            }
        }
    }

    /// The role of this scope and kind, as it was told. Names may have blanks, so only both ends count.
    fn find(&self, scope: &str, kind: &str) -> Option<&str> {
        let fits = |role: &&String| {
            let words = || role.split_whitespace();
            words().next() == Some(scope) && words().next_back() == Some(kind)
        };
        self.0.iter().find(fits).map(String::as_str)
    }

    fn admin(&self) -> Option<&str> {
        let of_all = || self.0.iter().find(|role| role.contains("AllDatabasesAdmin")).map(String::as_str);
        self.find("Database", "Admin").or_else(of_all)
    }

    /// What lets it ingest, and make mappings of the table.
    pub(super) fn ingests(&self) -> Option<&str> {
        self.find("Table", "Ingestor").or_else(|| self.find("Database", "Ingestor")).or_else(|| self.admin())
    }

    /// What lets it make tables.
    pub(super) fn creates_tables(&self) -> Option<&str> {
        self.find("Database", "User").or_else(|| self.admin())
    }

    /// What lets it change the table and move extents into it.
    pub(super) fn manages_table(&self) -> Option<&str> {
        self.find("Table", "Admin").or_else(|| self.admin())
    }

    /// All of them, for people.
    pub(super) fn told(&self) -> String {
        if self.0.is_empty() { "no role is shown".to_owned() } else { format!("shown: {}", self.0.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_kusto::Column;
    use serde_json::json;

    fn held(roles: &[&str]) -> Held {
        let columns = ["Role", "PrincipalType"].map(|name| Column { name: name.to_owned(), kind: "string".to_owned() });
        let rows = roles.iter().map(|role| vec![json!(role), json!("x")]).collect();
        let mut held = Held::default();
        held.add(&Table { columns: columns.to_vec(), rows });
        held
    }

    #[test]
    fn only_the_right_role_gives_the_right() {
        for (roles, ingests, creates, manages) in [
            (&[][..], false, false, false),
            (&["Database Rides Viewer", "Database Rides Monitor"][..], false, false, false),
            (&["Table Taxi Ingestor"][..], true, false, false),
            (&["Database Rides Ingestor"][..], true, false, false),
            (&["Table Taxi Admin"][..], false, false, true),
            (&["Database Rides User"][..], false, true, false),
            (&["Database My own rides Admin"][..], true, true, true),
            (&["Cluster AllDatabasesAdmin"][..], true, true, true),
            // A database that is called as a role is.
            (&["Database Ingestor Viewer"][..], false, false, false),
        ] {
            let held = held(roles);
            let found = (held.ingests().is_some(), held.creates_tables().is_some(), held.manages_table().is_some());
            assert_eq!(found, (ingests, creates, manages), "{roles:?}");
        }
    }

    #[test]
    fn the_same_role_told_twice_is_told_once() {
        assert_eq!(held(&["Database D User", "Database D User"]).told(), "shown: Database D User");
    }
}
