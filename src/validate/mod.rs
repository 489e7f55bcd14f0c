//! Validation at the door: base R4 and the project's own profiles, compiled at start, run in one walk over the JSON.
//!
//! A resource is checked without any look into the store and without the network. Messages name elements and what would be
//! right, never a personal value. Not evaluated yet: FHIRPath invariants other than ext-1 and our own, codes of value sets from
//! outside R4 (MIME types, currencies, UCUM), profiles of others (claimed in `meta.profile`, they get an information issue).
//! Spec: <https://hl7.org/fhir/R4/validation.html>. Choices: `docs/adr/0005-validation.md`.

mod base;
mod binding;
mod invariants;
mod messages;
mod overlay;
mod path;
mod primitive;
mod profile;
mod program;
mod reference;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::fhir::definitions::Definitions;
use crate::fhir::definitions::names::NameMap;
use crate::fhir::json::Value;
use crate::outcome::Issue;
use crate::outcome::Severity;
use crate::validate::base::Walk;
use crate::validate::path::Issues;
use crate::validate::path::Path;
use crate::validate::profile::Profile;
use crate::validate::program::Program;

const R4_TYPES: &str = "http://hl7.org/fhir/StructureDefinition/";

/// The project's own profiles.
const OWN: [&str; 6] = [
    include_str!("../../fhir-profiles/EdsBundle.json"),
    include_str!("../../fhir-profiles/EdsComposition.json"),
    include_str!("../../fhir-profiles/EdsDocumentReference.json"),
    include_str!("../../fhir-profiles/EdsOrganization.json"),
    include_str!("../../fhir-profiles/EdsPatient.json"),
    include_str!("../../fhir-profiles/EdsPractitioner.json"),
];

/// What a resource that breaks a profile gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Errors: the resource is refused.
    Reject,
    /// Warnings: it is accepted, and told so.
    Warn,
    /// The profile is not looked at, unless asked for by name.
    Off,
}

/// Policy by profile URL.
#[derive(Debug, Clone)]
pub struct ProfilePolicies {
    /// Of the profiles that are not named.
    pub default: Policy,
    pub policies: Vec<(String, Policy)>,
}

impl Default for ProfilePolicies {
    fn default() -> ProfilePolicies {
        ProfilePolicies {
            default: Policy::Reject,
            policies: Vec::new(),
        }
    }
}

/// The profile asked for is not loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownProfile;

impl fmt::Display for UnknownProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the profile is not loaded here")
    }
}

/// Everything compiled, ready to run from any thread.
pub struct Validator {
    program: Program,
    profiles: Vec<(Profile, Policy)>,
    by_url: NameMap<usize>,
    /// Resource type to the profiles that apply to it by themselves.
    by_type: NameMap<Vec<usize>>,
}

impl Validator {
    /// Compiles R4 and the project's profiles. Errors: a profile with what we do not support, or a policy for an unknown profile.
    pub fn load(definitions: &Definitions, policies: ProfilePolicies) -> Result<Validator, String> {
        let mut profiles = Vec::new();
        for text in OWN {
            profiles.push((profile::compile(text, definitions)?, policies.default));
        }
        for (url, policy) in policies.policies {
            let found = profiles.iter_mut().find(|(profile, _)| profile.url == url);
            found.ok_or_else(|| format!("there is no profile {url}"))?.1 = policy;
        }
        let mut by_type: Vec<(String, Vec<usize>)> = Vec::new();
        for (index, (profile, _)) in profiles.iter().enumerate().filter(|(_, (_, policy))| *policy != Policy::Off) {
            match by_type.iter_mut().find(|(ty, _)| *ty == profile.ty) {
                Some((_, indexes)) => indexes.push(index),
                None => by_type.push((profile.ty.clone(), vec![index])),
            }
        }
        let by_url = NameMap::new(
            profiles
                .iter()
                .enumerate()
                .map(|(index, (profile, _))| (profile.url.clone(), index)),
        );
        Ok(Validator {
            program: program::compile(definitions)?,
            profiles,
            by_url,
            by_type: NameMap::new(by_type),
        })
    }

    /// Everything wrong with a resource: base R4, then the profiles of its type. Resources in Bundle entries are checked too.
    pub fn validate(&self, resource: Value<'_>) -> Vec<Issue> {
        self.run(resource, true, &|ty, value, path, issues| {
            self.check_profiles(ty, value, path, issues)
        })
    }

    /// As [`Validator::validate`], without the resources in a Bundle's entries: for callers that check these one by one.
    pub fn validate_without_entries(&self, resource: Value<'_>) -> Vec<Issue> {
        self.run(resource, false, &|ty, value, path, issues| {
            self.check_profiles(ty, value, path, issues)
        })
    }

    /// Against base R4 and one profile, whatever its policy. The URL may end in `|version`.
    pub fn validate_against(&self, resource: Value<'_>, profile_url: &str) -> Result<Vec<Issue>, UnknownProfile> {
        let url = without_version(profile_url);
        let (wanted, profile) = match (self.by_url.get(url), url.strip_prefix(R4_TYPES)) {
            (Some(index), _) => (self.profiles[*index].0.ty.as_str(), Some(&self.profiles[*index].0)),
            (None, Some(ty)) if self.program.resources.contains(ty) => (ty, None),
            _ => return Err(UnknownProfile),
        };
        let found = resource.get_str("resourceType");
        let mut issues = self.run(resource, true, &|_, value, path, issues| {
            if let Some(profile) = profile.filter(|p| path.parent.is_none() && found.as_deref() == Some(p.ty.as_str())) {
                overlay::check(profile, Severity::Error, value, path, issues);
            }
        });
        if found.as_deref().is_some_and(|found| found != wanted) {
            let text = format!("the profile is for {wanted}");
            issues.push(Issue {
                severity: Severity::Error,
                code: "invalid",
                expression: String::new(),
                text,
            });
        }
        Ok(issues)
    }

    /// URL and resource type of each loaded profile, for the CapabilityStatement.
    pub fn profiles(&self) -> impl Iterator<Item = (&str, &str, Policy)> {
        self.profiles
            .iter()
            .map(|(profile, policy)| (profile.url.as_str(), profile.ty.as_str(), *policy))
    }

    fn run<'d>(&self, resource: Value<'d>, is_deep: bool, on_resource: &dyn Fn(&str, Value<'d>, &Path<'_>, &mut Issues)) -> Vec<Issue> {
        let name = resource
            .get_str("resourceType")
            .filter(|name| self.program.resources.contains(name));
        let path = Path::root(name.as_deref().unwrap_or("Resource"));
        let mut walk = Walk {
            program: &self.program,
            issues: Issues::default(),
            on_resource,
            is_deep,
        };
        walk.resource(resource, &path, None);
        walk.issues.into_vec()
    }

    /// Profiles that apply to the type, and a word on those that the resource claims and we do not know.
    fn check_profiles(&self, ty: &str, resource: Value<'_>, path: &Path<'_>, issues: &mut Issues) {
        for index in self.by_type.get(ty).into_iter().flatten() {
            let (profile, policy) = &self.profiles[*index];
            let severity = if *policy == Policy::Reject {
                Severity::Error
            } else {
                Severity::Warning
            };
            overlay::check(profile, severity, resource, path, issues);
        }
        let Some(claims) = resource.get("meta").and_then(|meta| meta.get("profile")) else {
            return;
        };
        for (index, claim) in claims.items().enumerate() {
            let Some(claim) = claim.as_str() else { continue };
            let url = without_version(&claim);
            let meta = path.child("meta");
            let path = meta.child("profile").at(index);
            match self.by_url.get(url) {
                Some(known) if self.profiles[*known].0.ty != ty && self.profiles[*known].1 == Policy::Reject => {
                    issues.error(&path, "invalid", format!("this profile is for {}", self.profiles[*known].0.ty));
                }
                Some(_) => {}
                None if url.strip_prefix(R4_TYPES).is_some_and(|name| name == ty) => {}
                None => issues.push(
                    Severity::Information,
                    &path,
                    "informational",
                    "this profile is not loaded here: it was not checked",
                ),
            }
        }
    }
}

fn without_version(canonical: &str) -> &str {
    canonical.split_once('|').map_or(canonical, |(url, _)| url)
}
