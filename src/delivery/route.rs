//! Pertinence: which regions a resource belongs to, and what they must be told when that changes.
//!
//! What lies in a patient's compartment goes where the patient is assisted. Resources of no patient (Practitioner, Organization, Medication ...)
//! go wherever something goes that refers to them, and stay. Each resource has a mask of the regions that hold it; old and new mask give
//! what enters, is updated, or leaves.

use crate::config::sections::PertinenceSource;
use crate::delivery::Settings;
use crate::fhir::definitions::model::SearchParameterKind;
use crate::fhir::regions::bit;
use crate::interaction::Service;
use crate::policy::State;
use crate::search::parameters::Parameter;
use crate::search::term::reference_term;
use crate::store::feed::Change;
use crate::store::pertinence;
use crate::store::pertinence::Item;
use crate::store::pertinence::Region;
use crate::store::pertinence::Routed;
use sqlx::PgConnection;
use std::collections::HashMap;
use std::collections::HashSet;

/// Existing resources that one tick looks at for regions that are new.
const BOOTSTRAP_ROWS: i64 = 1_000;
/// How far references to shared resources are followed: PractitionerRole to Organization to the Organization it is part of, and so on.
const DEPTH_MAX: usize = 6;
/// Masks of all regions and of none.
const ALL: i32 = -1;
const NONE: i32 = 0;

pub struct Router<'s> {
    service: &'s Service,
    settings: &'s Settings,
    regions: &'s [Region],
    /// Bits of the enrolled regions.
    enrolled: i32,
    /// Patient's row id to mask; looked up once a tick.
    patients: HashMap<i64, i32>,
    /// Patients that were looked at since [`Router::move_patients`], by row id.
    seen: HashMap<i64, Routed>,
    /// Patients whose compartments have followed them in this tick.
    moved: HashSet<i64>,
    items: Vec<Item>,
    /// The rows that the items are about.
    routed: HashMap<i64, Routed>,
    masks: HashMap<i64, i32>,
    /// What a tick has told each region already.
    told: HashSet<(i16, i64)>,
}

impl<'s> Router<'s> {
    pub fn new(service: &'s Service, settings: &'s Settings, regions: &'s [Region]) -> Router<'s> {
        let enrolled = regions.iter().fold(0, |mask, region| mask | 1 << region.bit);
        Router {
            service,
            settings,
            regions,
            enrolled,
            patients: HashMap::new(),
            seen: HashMap::new(),
            moved: HashSet::new(),
            items: Vec::new(),
            routed: HashMap::new(),
            masks: HashMap::new(),
            told: HashSet::new(),
        }
    }

    /// What changed since the last tick: resources, and the registry. Tells whether more of the registry waits.
    pub async fn route_changes(&mut self, conn: &mut PgConnection, changed: &[Change]) -> Result<bool, sqlx::Error> {
        // Taken before any patient is looked up: what is looked up is at least as new, and what comes later waits for the next tick.
        let keys = pertinence::take_rda_changes(conn).await?;
        let mut rids: Vec<i64> = changed.iter().map(|c| c.rid).collect();
        rids.sort_unstable();
        rids.dedup();
        let created: HashSet<i64> = changed.iter().filter(|c| c.is_creation).map(|c| c.rid).collect();
        let rows = pertinence::by_rids(conn, &rids).await?;
        let late: Vec<Routed> = rows.iter().filter(|r| created.contains(&r.rid)).cloned().collect();
        self.route(conn, rows, ALL).await?;
        self.move_patients(conn).await?;
        self.enter_late(conn, &late).await?;
        if keys.is_empty() {
            return Ok(false);
        }
        let rids = pertinence::rids_by_terms(conn, &keys).await?;
        let mut patients = pertinence::by_rids(conn, &rids).await?;
        patients.retain(|r| self.is_patient(r));
        self.route(conn, patients, NONE).await?;
        self.move_patients(conn).await?;
        Ok(true)
    }

    /// Existing resources, for regions that are new or begin anew. Tells whether more wait.
    pub async fn bootstrap(&mut self, conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let new: Vec<&Region> = self.regions.iter().filter(|r| r.bootstrap_rid.is_some()).collect();
        let Some(after) = new.iter().filter_map(|r| r.bootstrap_rid).min() else {
            return Ok(false);
        };
        let rids = pertinence::bootstrap_rids(conn, after, BOOTSTRAP_ROWS).await?;
        let last = rids.last().copied();
        let rows = pertinence::by_rids(conn, &rids).await?;
        // What it holds already it is told again: after a restore nobody knows how much of it is still so (docs/adr/0009-backup.md).
        let behind = new.iter().fold(NONE, |mask, region| mask | 1 << region.bit);
        self.route(conn, rows, behind).await?;
        // Their compartments come in their turn.
        self.seen.clear();
        for region in new {
            let is_behind = region.bootstrap_rid.is_some_and(|rid| last.is_none_or(|last| rid < last));
            if is_behind {
                pertinence::set_bootstrap(conn, &region.code, last).await?;
            }
        }
        Ok(last.is_some())
    }

    /// Writes streams and masks. Tells whether a stream has grown.
    pub async fn store(mut self, conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let order = self.order();
        // What goes comes last, and the other way round: what is referred to stays until nothing refers to it.
        let place = |item: &Item| {
            let place = order.get(&item.rid).copied().unwrap_or(0);
            (!item.is_present, if item.is_present { place } else { -place })
        };
        self.items.sort_by_key(place);
        pertinence::append(conn, &self.items, self.service.store.clock.now()).await?;
        let masks: Vec<(i64, i32)> = self.masks.into_iter().collect();
        pertinence::set_masks(conn, &masks).await?;
        Ok(!self.items.is_empty())
    }

    /// The place of each row of the items, such that a reference is never ahead of its target; cycles are cut somewhere.
    fn order(&self) -> HashMap<i64, i64> {
        let by_hash: HashMap<i64, &Routed> = self.routed.values().map(|row| (row.self_hash, row)).collect();
        let mut order = HashMap::new();
        let mut begun = HashSet::new();
        let mut rows: Vec<&Routed> = self.routed.values().collect();
        rows.sort_unstable_by_key(|row| row.rid);
        for row in rows {
            // Depth first, without recursion: a row is placed when all that it refers to is.
            let mut stack = vec![(row, false)];
            while let Some((row, is_done)) = stack.pop() {
                if is_done {
                    let place = order.len() as i64 + 1;
                    order.entry(row.rid).or_insert(place);
                } else if begun.insert(row.rid) {
                    stack.push((row, true));
                    let targets = self.targets(row).into_iter().filter_map(|hash| by_hash.get(&hash).copied());
                    stack.extend(targets.map(|target| (target, false)));
                }
            }
        }
        order
    }

    /// Whether it belongs to a patient, as a patient does.
    fn is_of_patient(&self, row: &Routed) -> bool {
        let registry = &self.service.store.registry();
        registry.is_in_patient_compartment(registry.name_of(row.type_number))
    }

    fn is_patient(&self, row: &Routed) -> bool {
        self.service.store.registry().name_of(row.type_number) == "Patient"
    }

    async fn route(&mut self, conn: &mut PgConnection, rows: Vec<Routed>, news: i32) -> Result<(), sqlx::Error> {
        let wanted = self.wanted_masks(conn, &rows).await?;
        let mut entering: Vec<(Vec<i64>, i32)> = Vec::new();
        for (row, wanted) in rows.iter().zip(wanted) {
            let entered = self.decide(row, wanted, news);
            if entered != 0 || news & wanted != 0 {
                entering.push((self.targets(row), wanted));
            }
        }
        self.enter_targets(conn, entering).await
    }

    /// Follows references to shared resources.
    async fn enter_targets(&mut self, conn: &mut PgConnection, mut entering: Vec<(Vec<i64>, i32)>) -> Result<(), sqlx::Error> {
        for _ in 0..DEPTH_MAX {
            if entering.is_empty() {
                return Ok(());
            }
            entering = self.enter_shared(conn, entering).await?;
        }
        Ok(())
    }

    /// What the regions must be told of one row; returns the bits that enter. `news`: the regions that do not know its content yet, though they
    /// hold it.
    fn decide(&mut self, row: &Routed, wanted: i32, news: i32) -> i32 {
        let held = self.held(row);
        let (entering, leaving) = (wanted & !held, held & !wanted);
        let updated = wanted & held & news;
        for region in self.regions {
            let of_region = 1 << region.bit;
            let is_present = (entering | updated) & of_region != 0;
            let is_absent = leaving & of_region != 0;
            if is_absent || is_present && self.told.insert((region.bit, row.rid)) {
                self.items.push(Item {
                    bit: region.bit,
                    rid: row.rid,
                    version: row.version,
                    type_number: row.type_number,
                    is_present,
                });
            }
        }
        if wanted != held {
            self.masks.insert(row.rid, wanted);
        }
        if entering | leaving | updated != 0 && !self.routed.contains_key(&row.rid) {
            self.routed.insert(row.rid, row.clone());
        }
        entering
    }

    /// Shared resources that something entering refers to enter too; returns what these refer to in turn.
    async fn enter_shared(&mut self, conn: &mut PgConnection, entering: Vec<(Vec<i64>, i32)>) -> Result<Vec<(Vec<i64>, i32)>, sqlx::Error> {
        let mut wanted: HashMap<i64, i32> = HashMap::new();
        for (hashes, mask) in entering {
            for hash in hashes {
                *wanted.entry(hash).or_default() |= mask;
            }
        }
        let hashes: Vec<i64> = wanted.keys().copied().collect();
        let rows = pertinence::by_hashes(conn, &hashes).await?;
        let mut next = Vec::new();
        for row in rows {
            let name = self.service.store.registry().name_of(row.type_number);
            if State::from_number(row.state) != State::Live || self.service.store.registry().is_in_patient_compartment(name) {
                continue;
            }
            let held = self.held(&row);
            let mask = held | wanted.get(&row.self_hash).copied().unwrap_or(0);
            if self.decide(&row, mask, NONE) != 0 {
                next.push((self.targets(&row), mask));
            }
        }
        Ok(next)
    }

    /// Hashes that the row's references may stand for: each reference term undone by each salt of its type; most name nothing.
    fn targets(&self, row: &Routed) -> Vec<i64> {
        let registry = &self.service.store.registry();
        let Some(of) = registry.of(registry.name_of(row.type_number)) else {
            return Vec::new();
        };
        let mut salts: Vec<i64> = of
            .parameters
            .iter()
            .filter(|p| is_followed(p))
            .flat_map(|p| p.salts.iter().copied())
            .collect();
        salts.sort_unstable();
        salts.dedup();
        row.references
            .iter()
            .flat_map(|reference| salts.iter().map(move |salt| reference ^ salt))
            .collect()
    }

    /// The regions that each row pertains to.
    async fn wanted_masks(&mut self, conn: &mut PgConnection, rows: &[Routed]) -> Result<Vec<i32>, sqlx::Error> {
        let mut owners: Vec<Vec<i64>> = Vec::with_capacity(rows.len());
        for row in rows {
            owners.push(compartment_targets(self.service, row));
        }
        let hashes: Vec<i64> = owners.iter().flatten().copied().collect();
        let patients: HashMap<i64, Routed> = if hashes.is_empty() {
            HashMap::new()
        } else {
            let found = pertinence::by_hashes(conn, &hashes).await?;
            found.into_iter().filter(|r| self.is_patient(r)).map(|r| (r.self_hash, r)).collect()
        };
        let all: Vec<Routed> = patients
            .values()
            .chain(rows.iter().filter(|r| self.is_patient(r)))
            .cloned()
            .collect();
        self.look_up_patients(conn, all.iter().map(|p| p.rid).collect()).await?;
        self.seen.extend(all.into_iter().map(|p| (p.rid, p)));
        let wanted = rows.iter().zip(&owners).map(|(row, owners)| {
            if self.is_patient(row) {
                return self.mask_of_patient(row);
            }
            if State::from_number(row.state) != State::Live {
                return 0;
            }
            let name = self.service.store.registry().name_of(row.type_number);
            if !self.service.store.registry().is_in_patient_compartment(name) {
                return self.held(row) & self.enrolled;
            }
            let mut of_owners = owners.iter().filter_map(|h| patients.get(h)).peekable();
            if of_owners.peek().is_some() && of_owners.clone().all(|p| State::from_number(p.state) != State::Live) {
                // The patient was deleted: what is left of theirs stays where it is.
                return self.held(row) & self.enrolled;
            }
            of_owners.fold(0, |mask, owner| mask | self.mask_of_patient(owner))
        });
        Ok(wanted.collect())
    }

    /// Each patient's region of assistance, from the sources in their configured order.
    async fn look_up_patients(&mut self, conn: &mut PgConnection, mut rids: Vec<i64>) -> Result<(), sqlx::Error> {
        rids.retain(|rid| !self.patients.contains_key(rid));
        rids.sort_unstable();
        rids.dedup();
        if rids.is_empty() {
            return Ok(());
        }
        let registry = pertinence::registered(conn, &rids).await?;
        let origins = match self.settings.sources.contains(&PertinenceSource::DocumentOrigin) {
            true => pertinence::origins(conn, &rids).await?,
            false => HashMap::new(),
        };
        for rid in rids {
            let region = self.settings.sources.iter().find_map(|source| match source {
                PertinenceSource::Registry => registry.get(&rid).map(String::as_str),
                PertinenceSource::DocumentOrigin => origins.get(&rid).map(String::as_str),
                PertinenceSource::Default => self.settings.default_region.as_deref(),
            });
            let mask = region.and_then(bit).map_or(0, |bit| 1 << bit) & self.enrolled;
            self.patients.insert(rid, mask);
        }
        Ok(())
    }

    /// The regions that hold the row, with what this tick has decided.
    fn held(&self, row: &Routed) -> i32 {
        self.masks.get(&row.rid).copied().unwrap_or(row.mask)
    }

    /// Where a patient's own row is to be: nowhere, when it is deleted.
    fn mask_of_patient(&self, patient: &Routed) -> i32 {
        match State::from_number(patient.state) {
            State::Live => self.patients.get(&patient.rid).copied().unwrap_or(0),
            State::Deleted | State::Withdrawn => 0,
        }
    }

    /// Patients who belong elsewhere than they are held, because they, the registry, or a document that tells their region changed: they are
    /// moved, and everything in their compartments with them.
    async fn move_patients(&mut self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        loop {
            let seen = std::mem::take(&mut self.seen).into_values();
            let moving: Vec<Routed> = seen
                .filter(|p| State::from_number(p.state) == State::Live)
                .filter(|p| !self.moved.contains(&p.rid) && self.mask_of_patient(p) != p.mask)
                .collect();
            if moving.is_empty() {
                return Ok(());
            }
            self.moved.extend(moving.iter().map(|p| p.rid));
            let salts = compartment_salts(self.service);
            let terms: Vec<i64> = moving
                .iter()
                .flat_map(|p| salts.iter().map(|salt| reference_term(*salt, p.self_hash)))
                .collect();
            self.route(conn, moving, NONE).await?;
            let rids = pertinence::rids_by_terms(conn, &terms).await?;
            let rows = pertinence::by_rids(conn, &rids).await?;
            self.route(conn, rows, NONE).await?;
        }
    }

    /// Shared resources that come after what refers to them, or again: they enter where that is held.
    async fn enter_late(&mut self, conn: &mut PgConnection, created: &[Routed]) -> Result<(), sqlx::Error> {
        let late: Vec<&Routed> = created
            .iter()
            .filter(|row| State::from_number(row.state) == State::Live)
            .filter(|row| !self.is_of_patient(row))
            .collect();
        let mut salts: HashMap<i16, Vec<i64>> = HashMap::new();
        let (mut targets, mut terms) = (Vec::new(), Vec::new());
        for row in &late {
            let salts = salts
                .entry(row.type_number)
                .or_insert_with(|| referring_salts(self.service, row.type_number));
            targets.extend(salts.iter().map(|_| row.self_hash));
            terms.extend(salts.iter().map(|salt| reference_term(*salt, row.self_hash)));
        }
        if terms.is_empty() {
            return Ok(());
        }
        let masks = pertinence::referring_masks(conn, &targets, &terms).await?;
        let mut entering = Vec::new();
        for row in late {
            let held = self.held(row);
            let mask = held | masks.get(&row.self_hash).copied().unwrap_or(0) & self.enrolled;
            if self.decide(row, mask, NONE) != 0 {
                entering.push((self.targets(row), mask));
            }
        }
        self.enter_targets(conn, entering).await
    }
}

/// Hashes of the patients that the row's compartment parameters may refer to.
fn compartment_targets(service: &Service, row: &Routed) -> Vec<i64> {
    let registry = &service.store.registry();
    let name = registry.name_of(row.type_number);
    let Some(of) = registry.of(name) else { return Vec::new() };
    let salts: HashSet<i64> = registry
        .patient_compartment(name)
        .iter()
        .filter_map(|code| of.get(code))
        .flat_map(|p| p.salts.iter().copied())
        .collect();
    row.references
        .iter()
        .flat_map(|reference| salts.iter().map(move |salt| reference ^ salt))
        .collect()
}

/// Routing follows standard parameters only: what goes to a region must not change with what the repository is searched by.
fn is_followed(parameter: &Parameter) -> bool {
    parameter.kind == SearchParameterKind::Reference && parameter.custom.is_none()
}

/// Of every reference parameter, of any type, that may refer to this type.
fn referring_salts(service: &Service, target: i16) -> Vec<i64> {
    let registry = &service.store.registry();
    let name = registry.name_of(target);
    let types = registry.definitions.resource_types();
    let parameters = types.iter().filter_map(|name| registry.of(name)).flat_map(|of| &of.parameters);
    let mut salts: Vec<i64> = parameters
        .filter(|p| is_followed(p))
        .filter(|p| p.targets.is_empty() || p.targets.iter().any(|t| t == name || t == "Resource"))
        .flat_map(|p| p.salts.iter().copied())
        .collect();
    salts.sort_unstable();
    salts.dedup();
    salts
}

fn compartment_salts(service: &Service) -> Vec<i64> {
    let registry = &service.store.registry();
    let mut salts = Vec::new();
    for name in registry.definitions.resource_types() {
        if let Some(of) = registry.of(name) {
            salts.extend(
                registry
                    .patient_compartment(name)
                    .iter()
                    .filter_map(|code| of.get(code))
                    .flat_map(|p| p.salts.iter().copied()),
            );
        }
    }
    salts.sort_unstable();
    salts.dedup();
    salts
}
