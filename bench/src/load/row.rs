//! The rows of the table: what is measured, by how many clients, and what the project asks of it.

use clap::ValueEnum;

/// One measured operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Row {
    Import,
    CreatePatient,
    CreateObservation,
    Read,
    Identifier,
    Name,
    PatientCode,
    CodeDate,
    Chained,
    Has,
    Include,
    Revinclude,
    Count,
    DeepPage,
    SearchMix,
    Update,
    History,
    ConditionalCreate,
    Validate,
    CrudMix,
}

/// What the project asks of a row; `None` where it asks nothing.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
pub struct Goal {
    pub cpu_ms_max: Option<f64>,
    pub p99_ms_max: Option<f64>,
}

impl Row {
    /// The word of the command line.
    pub fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The words of the report.
    pub fn title(self) -> &'static str {
        match self {
            Row::Import => "import of transaction Bundles (each resource; times of a Bundle)",
            Row::CreatePatient => "create Patient",
            Row::CreateObservation => "create Observation",
            Row::Read => "read by id",
            Row::Identifier => "search by identifier",
            Row::Name => "search by name prefix, 20 a page",
            Row::PatientCode => "search by patient and code",
            Row::CodeDate => "search by code and date, newest 20",
            Row::Chained => "search chained by patient name, with code, 20 a page",
            Row::Has => "search by `_has`, 20 a page",
            Row::Include => "search with `_include` of Encounters",
            Row::Revinclude => "search with `_revinclude` of Encounters",
            Row::Count => "count by code (`_summary=count`)",
            Row::DeepPage => "search by code, `next` to the 20th page (each page of 20)",
            Row::SearchMix => "search mix: string, date, reference, token, quantity, composite (`_total=none`)",
            Row::Update => "update Observation",
            Row::History => "history of an Observation",
            Row::ConditionalCreate => "conditional create of Patients, half of which exist",
            Row::Validate => "`$validate` of an Observation, every second one wrong",
            Row::CrudMix => "CRUD mix: create, read, update, delete, read again, of nine types (each request)",
        }
    }

    /// Concurrent clients, each with one request at a time.
    pub fn clients(self) -> usize {
        match self {
            Row::Import => 4,
            Row::CreatePatient | Row::CreateObservation | Row::Update | Row::ConditionalCreate | Row::CrudMix => 32,
            _ => 8,
        }
    }

    /// Operations in a run: enough for the kernel's 10 ms ticks to mean something. Of the deep page and the CRUD mix, each is
    /// many requests.
    pub fn operations(self) -> usize {
        match self {
            Row::Import => 0,
            Row::Read => 20_000,
            Row::Identifier | Row::Name | Row::PatientCode | Row::History => 8_000,
            Row::Has | Row::Count => 2_000,
            Row::DeepPage => 200,
            Row::CrudMix => 1_000,
            _ => 4_000,
        }
    }

    /// Whether the row writes: then what the write leaves for afterwards is charged to it too.
    pub fn writes(self) -> bool {
        matches!(
            self,
            Row::Import | Row::CreatePatient | Row::CreateObservation | Row::Update | Row::ConditionalCreate | Row::CrudMix
        )
    }

    /// The figures to reach.
    pub fn goal(self) -> Goal {
        let goal = |cpu_ms_max, p99_ms_max| Goal {
            cpu_ms_max: Some(cpu_ms_max),
            p99_ms_max,
        };
        match self {
            Row::Import => goal(0.40, None),
            Row::CreatePatient | Row::CreateObservation => goal(0.50, Some(40.0)),
            Row::Read => goal(0.08, None),
            Row::Identifier | Row::Name | Row::PatientCode | Row::CodeDate | Row::Chained => goal(0.60, Some(15.0)),
            _ => Goal::default(),
        }
    }
}
