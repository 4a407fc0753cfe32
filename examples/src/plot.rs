//! plot
use crate::course::Course;
use crate::replay::RelationOutcome;
/// x
pub struct Plot<'a> {
    /// x
    pub course: &'a Course,
    /// x
    pub relations: &'a [RelationOutcome],
}
impl std::fmt::Display for Plot<'_> {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}
